"""`make[model](i)`: one row of every model that the admin shows, each with its own user, team and relatives."""

import uuid
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import Group
from django.db.models import Model
from django_celery_results.models import TaskResult

from apps.accounts import keys
from apps.accounts.models import ApiKey, Team, Tier, User
from apps.artifacts.models import Artifact
from apps.batches.models import Batch
from apps.caching.models import CachedResult, SemanticMatch, Tombstone
from apps.catalog.models import GenerationModel, Price, Route
from apps.core import clock
from apps.jobs.models import Attempt, Job, JobEvent, ProviderBatch
from apps.jobs.states import AttemptStatus, Billed, JobStatus, Kind
from apps.ledger import holds, usage
from apps.ledger.models import (
    Budget,
    BudgetPeriod,
    BudgetWarning,
    Entry,
    Hold,
    TeamBudget,
    UsageDay,
    UsageRecord,
)
from apps.ops import alerts, bills, mail
from apps.ops.models import Alert, Baseline, Bill, BillLine, Email, Notice, Silence
from apps.providers.contract import Ticket
from apps.providers.models import InboxEvent, Provider
from apps.validation.models import JudgeDay, PolicyList, QualityStandard, Takedown
from apps.webhooks.models import Delivery, DeliveryAttempt, Endpoint, Event
from tests import factories

ROUTE = {
    "provider": "wavespeed",
    "model": "standard",
    "provider_model": "vendor/standard",
    "amount_usd": "0.025",
}


def job(i: int = 0, **changes: Any) -> Job:
    """A running job that holds its money, with one attempt under way."""
    user = changes.pop("user", None) or factories.user()
    at = clock.now()
    values: dict[str, Any] = {
        "team": user.team,
        "user": user,
        "status": JobStatus.RUNNING,
        "lease": uuid.uuid4(),
        "type": Kind.IMAGE,
        "prompt": f"<b>a fox</b> {i}",
        "model": "standard",
        "quote": {"time_s": {"p50": 2.0, "p95": 4.0}, "routes": [ROUTE], "upper_bound_usd": "0.025"},
        "fingerprint": bytes(32),
        "estimated_cost_usd": Decimal("0.025"),
        "deadline_at": at + timedelta(hours=1),
        "due_at": at,
    }
    made = Job.objects.create(**{**values, **changes})
    if made.status in (JobStatus.QUEUED, JobStatus.RUNNING):
        holds.reserve(
            user_id=user.pk,
            timezone="UTC",
            reference=made.pk,
            amount_usd=Decimal("0.025"),
            price_id=uuid.uuid4(),
        )
    return made


def ended(status: JobStatus, i: int = 0, **changes: Any) -> Job:
    """A job that never cost anything."""
    error = {"error_code": "generation_failed", "error_message": "no"} if status == JobStatus.FAILED else {}
    values = {"status": status, "lease": None, "due_at": None, "finished_at": clock.now(), **error}
    return job(i, **{**values, **changes})


def attempt(i: int = 0, **changes: Any) -> Attempt:
    values: dict[str, Any] = {
        "number": 1,
        "status": AttemptStatus.SUBMITTED,
        "provider": "wavespeed",
        "model": "standard",
        "provider_model": "vendor/standard",
        "route_id": uuid.uuid4(),
        "price_id": uuid.uuid4(),
        "price_usd": Decimal("0.025"),
        "billed": Billed.UNKNOWN,
    }
    if "job" not in changes:
        values["job"] = job(i)
    return Attempt.objects.create(**{**values, **changes})


def artifact(i: int = 0, **changes: Any) -> Artifact:
    values: dict[str, Any] = {
        "team": factories.team(),
        "sha256": f"{i:064x}",
        "media_type": ("image/png", "video/mp4", "audio/wav")[i % 3],
        "size_bytes": 10_000 + i,
        "storage_key": uuid.uuid4().hex,
    }
    return Artifact.objects.create(**{**values, **changes})


def cached_result(i: int = 0) -> CachedResult:
    return CachedResult.objects.create(
        team=factories.team(),
        fingerprint=i.to_bytes(32, "big"),
        model="standard",
        source_id=uuid.uuid4(),
        outputs=[{"artifact_id": str(uuid.uuid4()), "media_type": "image/png"}],
        cost_usd=Decimal("0.025"),
        expires_at=clock.now() + timedelta(days=1),
    )


def semantic_match(i: int = 0) -> SemanticMatch:
    return SemanticMatch.objects.create(
        team=factories.team(),
        subject_id=uuid.uuid4(),
        source_id=uuid.uuid4(),
        served=bool(i % 2),
        similarity=0.93,
        probability=0.98,
        signature="bland+synonyms",
        saved_usd=Decimal("0.025"),
        judged=("", "right", "wrong")[i % 3],
    )


def tombstone(i: int = 0) -> Tombstone:
    return Tombstone.objects.create(
        team=factories.team(), asked=i.to_bytes(32, "big"), source_id=uuid.uuid4()
    )


def delivery(i: int = 0, **changes: Any) -> Delivery:
    event = Event.objects.create(
        team=factories.team(), type="job.completed", subject_id=uuid.uuid4(), payload={"data": {"id": "x"}}
    )
    made = Delivery.objects.create(event=event, url=f"https://example.com/{i}", attempts=1, **changes)
    DeliveryAttempt.objects.create(delivery=made, status_code=500, error="status 500", latency_ms=12)
    return made


def _key(i: int) -> ApiKey:
    return keys.issue(factories.user(), name=f"key {i}", scopes=["jobs:read"])[0]


def alert(i: int = 0, **changes: Any) -> Alert:
    words: dict[str, Any] = {
        "kind": "books.balance",
        "severity": Alert.Severity.CRITICAL,
        "key": f"books.balance:{i}",
        "subject": f"period {i}",
        "message": "<b>spent</b> 2, entries 1",
    }
    words |= changes
    alerts.raise_(**words)
    return Alert.objects.open().get(key=words["key"])


def bill(i: int = 0) -> Bill:
    attempt(i, ticket=Ticket(f"task-{i}").to_json())
    line = bills.Line(f"task-{i}", Decimal("0.025"), clock.now())
    bills.keep("wavespeed", f"bill-{i}.csv", [line])
    return Bill.objects.get(source=f"bill-{i}.csv")


def _price(i: int) -> Price:
    model = GenerationModel.objects.create(
        slug=f"model-{i}", name=f"Model {i}", kind="image", quality=5, expected_s_p50=1, expected_s_p95=2
    )
    route = Route.objects.create(model=model, provider="wavespeed", provider_model=f"vendor/{i}")
    return Price.objects.create(route=route, version=1, unit="image", unit_price_usd=Decimal("0.01"))


def _warning(i: int) -> BudgetWarning:
    period = BudgetPeriod.objects.get(user=job(i).user, scope="user_month")
    return BudgetWarning.objects.create(
        period=period, threshold=80, used_usd=Decimal(80), limit_usd=Decimal(100)
    )


def _cached(i: int) -> None:
    usage.record_cached(
        user_id=factories.user().pk,
        timezone="UTC",
        reference=uuid.uuid4(),
        kind="image",
        model="standard",
        estimated_usd=Decimal("0.025"),
        saved_usd=Decimal("0.025"),
    )


def _batch(i: int) -> None:
    user = factories.user()
    assert user.team
    Batch.objects.create(
        team=user.team, user=user, total=9, completed=i % 9, expires_at=clock.now() + timedelta(days=1)
    )


def _baseline(i: int) -> Baseline:
    return Baseline.objects.create(
        metric="error_rate", model=f"model-{i}", provider="wavespeed", seen_at=clock.now(), severity="critical",
        value=0.2, usual=0.01, z=7.0, hours=200, median=0.2, mad=1.1, mean=0.1, deviation=1.2,
        season=[[0, 0.0]] * 168, memory={},
    )  # fmt: skip


# A row of each model; where one row brings others, they are made with it.
def moved(i: int = 0) -> Job:
    """A job that has changed its status once."""
    made = job(i, status=JobStatus.QUEUED, lease=None)
    Job.objects.filter(pk=made.pk).update(status=JobStatus.RUNNING, lease=uuid.uuid4())
    return made


make: dict[type[Model], Callable[[int], Any]] = {
    ApiKey: _key,
    Team: lambda i: factories.team(),
    Tier: lambda i: factories.tier(),
    User: lambda i: factories.user(),
    Group: lambda i: Group.objects.create(name=f"group {i}"),
    Artifact: artifact,
    CachedResult: cached_result,
    SemanticMatch: semantic_match,
    Tombstone: tombstone,
    GenerationModel: _price,
    Route: _price,
    Price: _price,
    Provider: lambda i: Provider.objects.create(slug=f"provider-{i}", name=f"Provider {i}"),
    InboxEvent: lambda i: InboxEvent.objects.create(
        provider="wavespeed", event_id=f"e{i}", subject_id=uuid.uuid4(), task_id="t", body_sha256="0" * 64
    ),
    Job: attempt,
    Attempt: attempt,
    JobEvent: moved,
    ProviderBatch: lambda i: ProviderBatch.objects.create(
        route_id=uuid.uuid4(),
        provider="openai",
        provider_model=f"model-{i}",
        size=9,
        room=10,
        waited_s=1.5,
        due_at=clock.now(),
    ),
    Batch: _batch,
    Budget: lambda i: Budget.objects.create(user=factories.user(), limit_usd=Decimal(5)),
    BudgetPeriod: job,
    TeamBudget: lambda i: TeamBudget.objects.create(team=factories.team(), limit_usd=Decimal(5)),
    BudgetWarning: _warning,
    UsageRecord: _cached,
    UsageDay: _cached,
    Hold: job,
    Entry: job,
    QualityStandard: lambda i: QualityStandard.objects.create(model=f"model-{i}", min_technical=0.3),
    PolicyList: lambda i: PolicyList.objects.create(
        name=f"list {i}", action="block", category="c", terms="bomb"
    ),
    JudgeDay: lambda i: JudgeDay.objects.create(
        day=date(2026, 3, 1) + timedelta(days=i), asked=i, spent_usd=Decimal(i)
    ),
    Takedown: lambda i: Takedown.objects.create(sha256=f"{i:064x}", reason=f"order {i}"),
    Endpoint: lambda i: Endpoint.objects.create(team=factories.team(), url=f"https://example.com/{i}"),
    Event: delivery,
    Delivery: delivery,
    Alert: alert,
    Silence: lambda i: Silence.objects.create(
        pattern=f"books.balance:{i}", until=clock.now() + timedelta(hours=1), reason="known"
    ),
    Notice: lambda i: Notice.objects.create(alert=alert(i), event="opened", channel=f"{i:016x}"),
    Baseline: _baseline,
    Email: lambda i: mail.queue(factories.user(email="a@example.com"), subject=f"Budget {i}", body="Used up"),
    Bill: bill,
    BillLine: bill,
    TaskResult: lambda i: TaskResult.objects.create(task_id=str(i), task_name="jobs.sweep", status="FAILURE"),
}

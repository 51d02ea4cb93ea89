"""What the operator's policy and a moderation service say of a prompt, before anything is bought."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from apps.accounts import caller
from apps.accounts.models import Team, User
from apps.catalog import snapshot
from apps.catalog.models import GenerationModel
from apps.jobs import review
from apps.jobs.models import Job
from apps.ledger.models import Hold
from apps.validation import policy, service
from apps.validation.models import PolicyList
from tests import factories
from tests.fakes.receiver import Answer, Receiver
from tests.jobs.engine import FREE, SMALL, Engine


@pytest.fixture
def listed(engine: Engine) -> Callable[..., None]:
    def add(action: str, term: str) -> None:
        PolicyList.objects.create(name=term, action=action, category="weapons", terms=term)
        policy.forget()

    return add


def test_a_blocked_prompt_is_refused_and_leaves_nothing_behind(
    engine: Engine, listed: Callable[..., None]
) -> None:
    listed("block", "pipe bomb")
    for path in ("/v1/jobs", "/v1/estimates"):
        answer = engine.user.api.post(path, factories.body(prompt="a PIPE-BOMB"), format="json")
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["retryable"]) == (422, "content_rejected", False)
        assert problem["categories"] == ["weapons"]
        assert "bomb" not in answer.content.decode().lower()
    assert not Job.objects.exists()
    assert not Hold.objects.exists()
    assert engine.user.budget["held_usd"] == "0"


def test_a_replay_is_answered_as_it_was_even_if_the_prompt_is_blocked_since(
    engine: Engine, listed: Callable[..., None]
) -> None:
    asked = factories.body(prompt="a pipe bomb")
    first = engine.user.api.post("/v1/jobs", asked, format="json", HTTP_IDEMPOTENCY_KEY="k")
    listed("block", "pipe bomb")
    again = engine.user.api.post("/v1/jobs", asked, format="json", HTTP_IDEMPOTENCY_KEY="k")
    assert again.content == first.content
    assert engine.finish(Job.objects.get()).status == "completed"


def test_a_prompt_for_review_waits_until_ops_approves(engine: Engine, listed: Callable[..., None]) -> None:
    listed("review", "acme")
    job = engine.submit("an ACME poster")
    shown = engine.user.api.get(f"/v1/jobs/{job.pk}").json()
    assert (shown["status"], shown["phase"]) == ("queued", "review")
    assert job.findings
    assert job.findings[0] | {"term": "acme", "list": "acme", "version": 1} == job.findings[0]
    job = engine.run(job)
    assert (job.status, engine.submits()) == ("queued", [])
    assert review.approve(job.pk)
    assert not review.approve(job.pk)
    job = engine.finish(job)
    assert (job.status, len(engine.submits())) == ("completed", 1)


def test_what_ops_rejects_is_never_bought_and_costs_nothing(
    engine: Engine, listed: Callable[..., None]
) -> None:
    listed("review", "acme")
    job = engine.submit("an acme poster")
    assert review.reject(job.pk)
    job = engine.finish(job)
    assert (job.status, job.error_code, job.error_retryable) == ("failed", "content_rejected", False)
    assert (engine.submits(), engine.hold(job), job.cost_usd) == ([], "released", FREE)


def test_without_a_decision_the_deadline_ends_it(engine: Engine, listed: Callable[..., None]) -> None:
    listed("review", "acme")
    job = engine.submit("an acme poster")
    assert job.due_at == job.deadline_at
    job = engine.finish(job)
    assert (job.status, job.error_code, engine.hold(job)) == ("failed", "deadline_exceeded", "released")
    assert not review.approve(job.pk)
    assert engine.submits() == []


def test_a_job_in_review_can_be_canceled(engine: Engine, listed: Callable[..., None]) -> None:
    listed("review", "acme")
    job = engine.submit("an acme poster")
    engine.cancel(job)
    job = engine.run(job)
    assert (job.status, engine.hold(job)) == ("canceled", "released")


def test_the_cache_does_not_answer_what_is_to_be_reviewed(
    engine: Engine, listed: Callable[..., None]
) -> None:
    engine.finish(engine.submit("an acme poster", cache="exact"))
    listed("review", "acme")
    job = engine.submit("an acme poster", cache="exact")
    assert (job.status, job.cached_from) == ("queued", None)
    review.reject(job.pk)
    engine.finish(job)


@pytest.mark.parametrize(("action", "status"), [("approve", "completed"), ("reject", "failed")])
def test_ops_decides_in_the_admin_and_it_is_on_record(
    engine: Engine, listed: Callable[..., None], action: str, status: str
) -> None:
    listed("review", "acme")
    job = engine.submit("an acme poster")
    ops = Client()
    ops.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    page = reverse("admin:jobs_job_changelist")
    assert str(job.pk) in ops.get(f"{page}?review__exact=pending").content.decode()
    asked = {"action": action, "_selected_action": [str(job.pk)]}
    assert ops.post(page, asked, follow=True).status_code == 200
    assert LogEntry.objects.get(object_id=str(job.pk)).user.username == "root"
    assert engine.finish(job).status == status


def test_an_edit_of_a_list_in_the_admin_is_a_new_version_with_its_words_on_record(engine: Engine) -> None:
    ops = Client()
    ops.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    words = {"name": "arms", "kind": "terms", "action": "block", "category": "weapons", "active": "on"}
    ops.post(reverse("admin:validation_policylist_add"), {**words, "terms": "pipe bomb"})
    row = PolicyList.objects.get()
    ops.post(reverse("admin:validation_policylist_change", args=[row.pk]), {**words, "terms": "nail bomb"})
    row.refresh_from_db()
    assert (row.version, row.terms) == (2, "nail bomb")
    assert "nail bomb" in LogEntry.objects.order_by("-pk")[0].change_message
    assert policy.find("a nail bomb")
    assert not policy.find("a pipe bomb")


def test_what_is_for_commercial_use_is_made_only_by_models_licensed_for_it(engine: Engine) -> None:
    GenerationModel.objects.filter(slug="fast-draft").update(commercial_use=False)
    snapshot.forget()
    commercial = {"requirements": {"commercial_use": True}}
    named = engine.user.api.post("/v1/jobs", factories.body(**commercial), format="json")
    assert (named.status_code, named.json()["code"]) == (422, "requirements_not_met")
    assert "commercial" in named.json()["detail"]
    assert "standard" in named.json()["alternatives"]
    by_fallback = factories.body(model="standard", fallback_models=["fast-draft"], **commercial)
    assert engine.user.api.post("/v1/jobs", by_fallback, format="json").status_code == 422
    chosen = engine.submit(model=None, requirements={"commercial_use": True, "quality": 1})
    assert chosen.model != "fast-draft"
    assert "fast-draft" not in {route["model"] for route in chosen.quote["routes"]}
    assert engine.finish(chosen).status == "completed"


def licensed(engine: Engine, *, excluded: list[str], **team: Any) -> None:
    """`fast-draft` leaves these regions out, and the team is as said."""
    GenerationModel.objects.filter(slug="fast-draft").update(excluded_regions=excluded)
    Team.objects.filter(users=engine.user.user).update(**team)
    snapshot.forget()
    caller.forget()


@pytest.mark.parametrize(
    ("excluded", "region", "refused"),
    [
        ([], "", False),
        ([], "DE", False),
        (["KR"], "KR", True),
        (["KR"], "DE", False),
        (["EU", "GB"], "DE", True),
        (["EU", "GB"], "GB", True),
        (["EU", "GB"], "CH", False),
        (["EU"], "", True),
    ],
)
def test_a_model_is_not_used_where_its_licence_leaves_the_teams_country_out(
    engine: Engine, excluded: list[str], region: str, refused: bool
) -> None:
    licensed(engine, excluded=excluded, region=region)
    models = {each["id"]: each["allowed"] for each in engine.user.api.get("/v1/models").json()["data"]}
    assert (models["fast-draft"], models["standard"]) == (not refused, True)
    answer = engine.user.api.post("/v1/jobs", factories.body(), format="json")
    if not refused:
        assert answer.status_code == 202
        return
    told = answer.json()
    assert (answer.status_code, told["code"], told["errors"][0]["field"]) == (
        422,
        "model_not_licensed",
        "model",
    )
    assert (region or "not known") in told["detail"]
    assert told["alternatives"][0] == "standard"
    assert not Job.objects.exists()
    assert not Hold.objects.exists()
    by_fallback = factories.body(model="standard", fallback_models=["fast-draft"])
    assert engine.user.api.post("/v1/jobs", by_fallback, format="json").json()["code"] == "model_not_licensed"
    chosen = engine.submit(model=None, requirements={"quality": 1})
    assert "fast-draft" not in {route["model"] for route in chosen.quote["routes"]}


def test_a_quote_is_not_honoured_by_a_model_whose_licence_was_narrowed_since(engine: Engine) -> None:
    asked = factories.body(fallback_models=["standard"], params=SMALL)
    quoted = engine.user.api.post("/v1/estimates", asked, format="json").json()["quote_id"]
    licensed(engine, excluded=["EU"], region="FR")
    refused = engine.user.api.post("/v1/jobs", {**asked, "quote_id": quoted}, format="json")
    assert refused.json()["code"] == "model_not_licensed"


def test_all_that_a_commercial_team_makes_is_made_by_models_licensed_for_it(engine: Engine) -> None:
    GenerationModel.objects.filter(slug="fast-draft").update(commercial_use=False)
    licensed(engine, excluded=[], is_commercial=True)
    named = engine.user.api.post("/v1/jobs", factories.body(), format="json")
    assert (named.status_code, named.json()["code"]) == (422, "requirements_not_met")
    assert engine.submit(model=None, requirements={"quality": 1}).model != "fast-draft"


def test_the_admin_knows_countries_and_takes_no_other_words(engine: Engine) -> None:
    team = Team.objects.get(users=engine.user.user)
    team.region = "UK"
    with pytest.raises(ValidationError, match="UK"):
        team.full_clean()
    model = GenerationModel.objects.get(slug="fast-draft")
    model.excluded_regions = ["EU", "Korea"]
    with pytest.raises(ValidationError, match="ISO 3166-1"):
        model.full_clean()


# --- Moderation -------------------------------------------------------------------------------


@pytest.fixture
def moderator(settings: Any) -> Iterator[Receiver]:
    with Receiver() as running:
        settings.MODERATION_URL = f"{running.url}/v1/moderations"
        settings.MODERATION_API_KEY = "sk-test"
        yield running
        service.close()


def opinion(**scores: float) -> Answer:
    """As OpenAI answers; what scores above one half is flagged."""
    categories = {name.replace("__", "/"): score > 0.5 for name, score in scores.items()}
    result = {
        "flagged": any(categories.values()),
        "categories": categories,
        "category_scores": {name.replace("__", "/"): score for name, score in scores.items()},
    }
    return Answer(body=json.dumps({"id": "m", "model": "o", "results": [result]}).encode())


def test_a_prompt_that_moderation_lets_pass_is_bought(engine: Engine, moderator: Receiver) -> None:
    moderator.answers(opinion(violence=0.1), opinion(violence=0.1))
    assert engine.finish(engine.submit("a fox")).status == "completed"
    asked = moderator.requests[0]
    assert json.loads(asked.body)["input"] == [{"type": "text", "text": "a fox"}]
    assert asked.headers["authorization"] == "Bearer sk-test"


def test_a_prompt_that_moderation_refuses_is_not_bought_anywhere(engine: Engine, moderator: Receiver) -> None:
    moderator.answers(opinion(violence=0.9, sexual__minors=0.8))
    job = engine.finish(engine.submit("a fox", fallback_models=["standard"]))
    assert (job.status, job.error_code, job.error_retryable) == ("failed", "content_rejected", False)
    assert "sexual_minors, violence" in job.error_message
    assert (engine.submits(), engine.hold(job)) == ([], "released")


@pytest.mark.parametrize(
    "answer",
    [Answer(status=503), Answer(body=b"<html>"), Answer(body=b"{}"), Answer(body=b'{"results": []}')],
)
def test_while_moderation_is_away_the_job_waits_and_is_asked_about_again(
    engine: Engine, moderator: Receiver, answer: Answer
) -> None:
    moderator.answers(answer, opinion(violence=0.1), opinion(violence=0.1))
    job = engine.run(engine.submit("a fox"))
    assert (job.status, engine.submits()) == ("running", [])
    assert engine.finish(job).status == "completed"


def test_moderation_that_is_not_required_stops_nothing_while_it_is_away(
    engine: Engine, settings: Any
) -> None:
    settings.MODERATION_URL, settings.MODERATION_REQUIRED = "http://127.0.0.1:9/v1/moderations", False
    assert engine.finish(engine.submit("a fox")).status == "completed"
    service.close()

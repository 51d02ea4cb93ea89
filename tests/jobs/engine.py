"""Drives jobs by hand: every step in this thread, against the real provider process, at a time that tests move.

The provider's webhooks arrive at a receiver of ours, signed as they are, and reach the platform when a test lets
them: early, late, doubled or never.
"""

import hashlib
import hmac
import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from django.test import Client

from apps.core import clock
from apps.jobs import documents, inbound, run, unknowns, validate
from apps.jobs.models import Attempt, Job, JobEvent
from apps.jobs.states import AttemptStatus
from apps.ledger.models import Entry, Hold
from apps.providers import inbox
from apps.providers.contract import Ticket
from apps.providers.models import InboxEvent
from tests import factories
from tests.fakes.receiver import Received, Receiver
from tests.fakes.simulator import Simulator, wait_until

# More steps than any job of these tests needs: one that goes round in circles must end the test.
_MAX_STEPS = 60
SMALL = {"width": 64, "height": 64}
FREE = Decimal(0)


class Time:
    """The platform's clock, standing still until it is moved."""

    def __init__(self, undo: ExitStack) -> None:
        self._undo = undo
        self.set(datetime.now(UTC))

    def set(self, at: datetime) -> None:
        self.now = at
        self._undo.enter_context(clock.frozen(at))

    def forward(self, seconds: float) -> None:
        self.set(self.now + timedelta(seconds=seconds))


class Engine:
    def __init__(self, simulator: Simulator, door: Receiver, time: Time) -> None:
        self.simulator, self.door, self.time = simulator, door, time
        self.user = factories.someone()
        # What the provider bills and the books, by policy, do not show.
        self.unbooked_usd = Decimal(0)

    def submit(self, prompt: str = "a lighthouse at dusk", **changes: Any) -> Job:
        """A job accepted by the API."""
        by = changes.pop("by", self.user)
        body = {"params": SMALL, "cache": "off", **factories.body(prompt=prompt), **changes}
        answer = by.api.post("/v1/jobs", body, format="json")
        assert answer.status_code == 202, answer.content
        return Job.objects.get(pk=answer.json()["id"])

    def run(self, job: Job) -> Job:
        """One touch by an `io` worker."""
        run.run(job.pk)
        return self.fresh(job)

    def validate(self, job: Job) -> Job:
        """One touch by a `cpu` worker."""
        validate.validate(job.pk)
        return self.fresh(job)

    def due(self, job: Job) -> Job:
        """Moves the clock to when the job next wants attention."""
        job = self.fresh(job)
        assert job.due_at
        if job.due_at > self.time.now:
            self.time.set(job.due_at)
        return job

    def finish(self, job: Job) -> Job:
        """Touches the job whenever it is due, until it has ended."""
        for _ in range(_MAX_STEPS):
            if self.fresh(job).has_ended:
                return self.fresh(job)
            self.due(job)
            self.provider_done()
            fetched = AttemptStatus.FETCHED in self.statuses(job)
            (validate.validate if fetched else run.run)(job.pk)
        raise AssertionError(f"not ended after {_MAX_STEPS} steps: {self.story(job)}")

    def cancel(self, job: Job) -> Job:
        """As the user asks by the API."""
        assert self.user.api.post(f"/v1/jobs/{job.pk}/cancel").status_code == 202
        return self.fresh(job)

    def webhooks(self, count: int = 1) -> list[Received]:
        """The first `count` webhooks that the provider sent."""
        return self.door.wait_for(count)[:count]

    def deliver(self, webhook: Received, attempt: Attempt | None = None) -> int:
        """Hands the provider's webhook to the platform, and to the worker if it is news. The status answered.

        `attempt`: whose address it is sent to, where that is not the one the provider was given.
        """
        known = set(InboxEvent.objects.values_list("pk", flat=True))
        status = self.store(webhook, attempt)
        for event in InboxEvent.objects.exclude(pk__in=known):
            inbound.receive(event.pk)
        return status

    def store(self, webhook: Received, attempt: Attempt | None = None) -> int:
        """The same when the ring is lost: the webhook is in the inbox and no worker hears of it."""
        path = urlsplit(inbox.webhook_url(attempt.provider, attempt.pk)).path if attempt else webhook.path
        headers = {
            name: value for name, value in webhook.headers.items() if name.startswith(("webhook-", "x-fal-"))
        }
        answer = Client().generic(
            "POST", path, webhook.body, content_type="application/json", headers=headers
        )
        return answer.status_code

    def signed_webhook(self, attempt: Attempt) -> Received:
        """A webhook of the provider about the attempt's task, as of now, which it never sent."""
        task_id = Ticket.from_json(attempt.ticket or "").task_id
        body, sent_at = json.dumps({"id": task_id}).encode(), str(int(clock.now().timestamp()))
        key = self.simulator.webhook_secret.removeprefix("whsec_").encode()
        digest = hmac.new(key, f"{task_id}.{sent_at}.".encode() + body, hashlib.sha256).hexdigest()
        headers = {
            "webhook-id": task_id,
            "webhook-timestamp": sent_at,
            "webhook-signature": f"v3,{digest}",
        }
        path = urlsplit(inbox.webhook_url(attempt.provider, attempt.pk)).path
        return Received("POST", path, headers, body)

    def provider_done(self) -> None:
        """Returns when the provider has ended everything it accepted."""
        wait_until(lambda: not self.simulator.summary()["tasks_by_state"].get("open"))

    def resolve(self, attempt: Attempt) -> Attempt:
        """One look at an unknown outcome, when it is due."""
        attempt.refresh_from_db()
        if attempt.check_at and attempt.check_at > self.time.now:
            self.time.set(attempt.check_at)
        unknowns.resolve(attempt.pk)
        attempt.refresh_from_db()
        return attempt

    def fresh(self, job: Job) -> Job:
        return Job.objects.get(pk=job.pk)

    def last(self, job: Job) -> Attempt | None:
        return Attempt.objects.of(job).last()

    def attempts(self, job: Job) -> list[Attempt]:
        return list(Attempt.objects.of(job))

    def attempt(self, job: Job) -> Attempt:
        """The only attempt."""
        return Attempt.objects.get(job=job)

    def statuses(self, job: Job) -> list[str]:
        """Of its attempts, in order."""
        return [attempt.status for attempt in self.attempts(job)]

    def moves(self, job: Job) -> list[tuple[str, str]]:
        events = documents.events(job, list(JobEvent.objects.filter(job=job).order_by("id")))
        return [(event["from_status"], event["to_status"]) for event in events]

    def hold(self, job: Job) -> str:
        """State of the job's hold."""
        return Hold.objects.get(reference=job.pk).state

    def absorbed(self, job: Job) -> Decimal:
        """What the platform paid for the job."""
        booked = Entry.objects.filter(reference=job.pk, kind=Entry.Kind.PLATFORM_ABSORBED)
        return sum(booked.values_list("amount_usd", flat=True), Decimal(0))

    def submits(self) -> list[dict[str, Any]]:
        """Every order that reached the provider."""
        return self.simulator.ledger()["submits"]

    def story(self, job: Job) -> str:
        """For a failing test: where the job stands and what was tried."""
        job = self.fresh(job)
        tried = [(a.number, a.status, a.error_kind, a.error_message) for a in self.attempts(job)]
        return f"{job.status} {job.error_code} due {job.due_at}: {tried}"


def booked_usd() -> Decimal:
    """What users were charged and the platform absorbed, over all."""
    kinds = (Entry.Kind.CAPTURE, Entry.Kind.CHARGE, Entry.Kind.PLATFORM_ABSORBED)
    return sum(Entry.objects.filter(kind__in=kinds).values_list("amount_usd", flat=True), Decimal(0))


def billed_usd(simulator: Simulator) -> Decimal:
    """What the provider charges, over all."""
    return Decimal(simulator.summary()["charged_usd"])

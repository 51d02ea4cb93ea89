"""Tell one receiver about one event: claim, POST with no transaction open, write down what came of it.

A delivery is at least once: after a crash between the POST and the record it is sent again, with the same
`webhook-id`. Any 2xx is success; 3xx is failure (the specification forbids following); 410 stops for good.
"""

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from opentelemetry.trace import SpanKind

from apps.core import clock, http
from apps.core.telemetry import tracing
from apps.webhooks import emit, endpoints, metrics, signing
from apps.webhooks.models import Delivery, DeliveryAttempt

MAX_RESPONSE_BYTES: Final = 4096
RETRY_AFTER_MAX_S: Final = 86_400.0
# The lease outlasts the POST by this much.
LEASE_MARGIN_S: Final = 15.0

# A host that hangs holds this many threads of a worker at most; the rest of its deliveries come back later.
PER_HOST: Final = 8
SLOT_WAIT_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """`status_code` None: no answer. `error` empty: delivered. `retry_after_s`: asked for by the receiver."""

    status_code: int | None
    error: str
    latency_ms: int
    retry_after_s: float = 0.0


def deliver(delivery_id: uuid.UUID) -> None:
    """One attempt, if it is due and nobody else has it; otherwise nothing."""
    delivery = Delivery.objects.due(clock.now()).select_related("event__team").filter(id=delivery_id).first()
    if delivery is None:
        return
    event = delivery.event
    with _slot(urlsplit(delivery.url).hostname or "") as free:
        if not free:
            _postpone(delivery)
        elif _claim(delivery):
            ids = {"delivery_id": delivery.pk, "event_id": event.pk, "team_id": event.team_id}
            with tracing.step("webhook.deliver", event.traceparent, kind=SpanKind.PRODUCER, **ids):
                record(delivery, _post(delivery))


def record(delivery: Delivery, outcome: Outcome) -> None:
    """Writes the attempt and what follows from it, unless the lease was lost meanwhile."""
    with transaction.atomic():
        mine = Delivery.objects.filter(id=delivery.id, lease=delivery.lease)
        status, due_at = _next(delivery.attempts, outcome)
        if mine.update(status=status, due_at=due_at, lease=None, lease_expires_at=None):
            DeliveryAttempt.objects.create(
                delivery=delivery,
                at=clock.now(),
                status_code=outcome.status_code,
                error=outcome.error[:200],
                latency_ms=outcome.latency_ms,
            )
            if status == Delivery.Status.DISABLED and delivery.endpoint_id:
                endpoints.stop(delivery.endpoint_id)
    metrics.attempted(status, outcome.latency_ms / 1000)
    tracing.note(outcome=status, status_code=str(outcome.status_code or ""))


def _claim(delivery: Delivery) -> bool:
    now = clock.now()
    ends_at = now + timedelta(seconds=settings.WEBHOOK_TIMEOUT_S + LEASE_MARGIN_S)
    due = Delivery.objects.due(now).filter(id=delivery.id, attempts=delivery.attempts)
    delivery.lease, delivery.attempts = uuid.uuid4(), delivery.attempts + 1
    claimed = due.update(
        lease=delivery.lease,
        lease_expires_at=ends_at,
        due_at=ends_at,
        rung_at=None,
        attempts=delivery.attempts,
    )
    return claimed == 1


def _post(delivery: Delivery) -> Outcome:
    event, team = delivery.event, delivery.event.team
    body = emit.body_of(event.payload)
    secret = signing.secret_for(team.id, team.webhook_secret_version)
    signed = signing.sign(id=str(event.id), at=clock.now(), body=body, secrets=[secret])
    headers = {
        **signed,
        **tracing.here(),
        "Content-Type": "application/json",
        "User-Agent": "genplatform-webhooks/1",
    }
    started = time.monotonic()
    try:
        answer = http.post(
            delivery.url,
            body=body,
            headers=headers,
            timeout_s=settings.WEBHOOK_TIMEOUT_S,
            max_response_bytes=MAX_RESPONSE_BYTES,
        )
    except (http.UnsafeUrl, http.FetchFailed) as error:
        return Outcome(None, str(error), _ms_since(started))
    error_text = "" if 200 <= answer.status < 300 else f"status {answer.status}"
    return Outcome(answer.status, error_text, _ms_since(started), _retry_after_s(answer))


def _next(attempts: int, outcome: Outcome) -> tuple[Delivery.Status, datetime | None]:
    """The status after the attempt number `attempts`, and when it is due again."""
    if not outcome.error:
        return Delivery.Status.DELIVERED, None
    if outcome.status_code == 410:
        return Delivery.Status.DISABLED, None
    delays = settings.WEBHOOK_RETRY_DELAYS_S
    if attempts > len(delays):
        return Delivery.Status.EXHAUSTED, None
    # Jitter, so that a receiver that was down is not hit by everything at once.
    delay_s = max(delays[attempts - 1] * random.uniform(0.9, 1.1), outcome.retry_after_s)  # noqa: S311
    return Delivery.Status.PENDING, clock.now() + timedelta(seconds=delay_s)


def _postpone(delivery: Delivery) -> None:
    now = clock.now()
    later = now + timedelta(seconds=random.uniform(1.0, 2.0))  # noqa: S311 - spreads load
    Delivery.objects.due(now).filter(id=delivery.id).update(due_at=later, rung_at=None)


_in_use: Counter[str] = Counter()
_freed = threading.Condition()


@contextmanager
def _slot(host: str) -> Generator[bool]:
    """One of the host's places in this process; False if none comes free within a moment."""
    with _freed:
        free = _freed.wait_for(lambda: _in_use[host] < PER_HOST, SLOT_WAIT_S)
        _in_use[host] += free
    try:
        yield free
    finally:
        with _freed:
            _in_use[host] -= free
            if not _in_use[host]:
                del _in_use[host]
            _freed.notify_all()


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def _retry_after_s(answer: http.Response) -> float:
    """Seconds, given as such or as a date (RFC 9110, section 10.2.3); 0 if absent or not understood."""
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return min(float(value), RETRY_AFTER_MAX_S)
    try:
        at = parsedate_to_datetime(value).replace(tzinfo=UTC)
    except ValueError:
        return 0.0
    return min(max((at - clock.now()).total_seconds(), 0.0), RETRY_AFTER_MAX_S)

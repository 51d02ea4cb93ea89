"""The bell's ends: each task takes the id of a row and calls one verb."""

import uuid

from celery import shared_task

from apps.jobs import flush as flushes
from apps.jobs import inbound, measure, pacing, polls, sweep, tally, unknowns
from apps.jobs import poll_batch as batch_polls
from apps.jobs import run as runs
from apps.jobs import validate as validations


@shared_task(name="jobs.run")
def run(*, v: int, id: str) -> None:
    runs.run(uuid.UUID(id))


@shared_task(name="jobs.validate")
def validate(*, v: int, id: str) -> None:
    validations.validate(uuid.UUID(id))


@shared_task(name="jobs.provider_event")
def provider_event(*, v: int, id: str) -> None:
    inbound.receive(uuid.UUID(id))


@shared_task(name="jobs.resolve_unknown")
def resolve_unknown(*, v: int, id: str) -> None:
    unknowns.resolve(uuid.UUID(id))


@shared_task(name="jobs.poll_many")
def poll_many(*, v: int, id: str) -> None:
    polls.rounds()


@shared_task(name="jobs.flush")
def flush(*, v: int, id: str) -> None:
    flushes.flush(uuid.UUID(id))


@shared_task(name="jobs.poll_batch")
def poll_batch(*, v: int, id: str) -> None:
    batch_polls.poll(uuid.UUID(id))


@shared_task(name="jobs.sweep_batches")
def sweep_batches() -> None:
    pacing.ring_due()


@shared_task(name="jobs.sweep")
def sweep_jobs() -> None:
    sweep.due_jobs()


@shared_task(name="jobs.sweep_unknown")
def sweep_unknown() -> None:
    sweep.unknown_attempts()


@shared_task(name="jobs.measure_routes")
def measure_routes() -> None:
    measure.routes()


@shared_task(name="jobs.count_ended")
def count_ended() -> None:
    tally.all_of_them()


@shared_task(name="jobs.forget_idempotency_keys", ignore_result=False)
def forget_idempotency_keys() -> int:
    return sweep.old_idempotency_keys()

"""The life of one order for many jobs at a provider that has batches: its row is there before money is spent, knows
what the provider says of it, and ends once."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet

from apps.core import clock, rows
from apps.jobs.models import Attempt, ProviderBatch
from apps.jobs.states import AttemptStatus, BatchStatus
from apps.providers.contract import Ticket

LOOK_AGAIN_S = 5.0
FIRST_POLL_S = 1.0
# Of a job's lease: how long a batch is one poller's.
_LEASES = 3

# A ticket is a fact, kept whatever became of the attempt meanwhile, as in attempts.
_ADOPT = """
WITH batch AS (
    UPDATE jobs_providerbatch SET status = 'submitted', ticket = %(ticket)s, submitted_at = %(now)s, due_at = %(due_at)s
    WHERE id = %(id)s AND status = 'started'
)
UPDATE jobs_attempt a SET ticket = t.ticket,
    submitted_at = CASE status WHEN 'started' THEN %(now)s ELSE submitted_at END,
    status = CASE status WHEN 'started' THEN 'submitted' ELSE status END
FROM unnest(%(ids)s::uuid[], %(tickets)s::text[]) AS t(id, ticket)
WHERE a.id = t.id AND a.ticket IS NULL AND a.status IN ('started', 'unknown')
"""


def open_one(batch: ProviderBatch, attempts: Sequence[Attempt]) -> set[uuid.UUID]:
    """The rows that must be there before money is spent. Returns which of the attempts were opened; where none could
    be, there is no batch either."""
    with transaction.atomic(durable=True):
        batch.size, batch.created_at = len(attempts), clock.now()
        batch.due_at = batch.created_at + timedelta(seconds=LOOK_AGAIN_S)
        batch.save(force_insert=True)
        # Somebody who lost one of the jobs may have bought for it: then it is not ordered here.
        Attempt.objects.bulk_create(attempts, ignore_conflicts=True)
        opened = set(Attempt.objects.filter(provider_batch=batch).values_list("pk", flat=True))
        if not opened:
            transaction.set_rollback(True)
    return opened


def adopt(batch: ProviderBatch, ticket: Ticket, attempt_ids: Sequence[uuid.UUID]) -> None:
    """The provider's name for the batch became known, and with it that of each order."""
    rows.execute(
        _ADOPT,
        {
            "id": batch.pk,
            "ticket": ticket.to_json(),
            "now": clock.now(),
            "due_at": clock.now() + timedelta(seconds=FIRST_POLL_S),
            "ids": list(attempt_ids),
            "tickets": [Ticket.in_batch(str(one), ticket).to_json() for one in attempt_ids],
        },
    )


def take(batch_id: uuid.UUID) -> ProviderBatch | None:
    """The batch, for us alone for a while; None if it is not due, or somebody else's."""
    if not _hold(batch_id, ProviderBatch.objects.filter(due_at__lte=clock.now())):
        return None
    return ProviderBatch.objects.get(pk=batch_id)


def keep(batch: ProviderBatch) -> None:
    """For us for a while longer. Who works on one that is not his does no harm: each job has a lease of its own."""
    _hold(batch.pk, ProviderBatch.objects.filter(due_at__isnull=False))


def _hold(batch_id: uuid.UUID, among: QuerySet[ProviderBatch]) -> bool:
    held_until = clock.now() + timedelta(seconds=_LEASES * settings.JOB_LEASE_S)
    return bool(among.filter(pk=batch_id).update(due_at=held_until, polls=F("polls") + 1))


def ask_again(batch: ProviderBatch, later_s: float = LOOK_AGAIN_S, **news: Any) -> None:
    """Gives the batch back. `news`: columns that changed."""
    again_at = clock.now() + timedelta(seconds=later_s)
    ProviderBatch.objects.filter(pk=batch.pk, due_at__isnull=False).update(due_at=again_at, **news)


def is_wanted(batch: ProviderBatch) -> bool:
    """Whether a job still waits for one of its orders."""
    waiting = (AttemptStatus.STARTED, AttemptStatus.SUBMITTED)
    return Attempt.objects.filter(provider_batch=batch, status__in=waiting).exists()


def end(batch: ProviderBatch, status: BatchStatus, *, error: str = "") -> bool:
    """Nobody is asked about it any more. False: it had ended before."""
    ended = ProviderBatch.objects.filter(pk=batch.pk, due_at__isnull=False).update(
        status=status, due_at=None, ended_at=clock.now(), error_kind=error
    )
    return bool(ended)

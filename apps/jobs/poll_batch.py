"""What a provider says of a batch ordered there. It is asked about as a whole; when it has ended, its orders are handed
to their jobs (`hand_out`). A batch whose answer was lost is looked for by its own id."""

import uuid
from contextlib import closing
from datetime import timedelta

import structlog
from django.conf import settings

from apps.core import clock
from apps.jobs import hand_out, outcomes, provider_batches
from apps.jobs.models import Attempt, ProviderBatch
from apps.jobs.states import AttemptStatus, BatchStatus, Billed
from apps.providers import call
from apps.providers.contract import BatchPending, Ticket
from apps.providers.errors import ErrorKind, ProviderError

log = structlog.get_logger(__name__)

_MAX_POLL_S, _POLL_GROWTH = 60.0, 1.5
_FORGETFUL_S = 60.0


def poll(batch_id: uuid.UUID) -> None:
    """Asks once about the batch, if it is due and nobody else does; hands its orders to their jobs if it has ended."""
    batch = provider_batches.take(batch_id)
    if batch is None:
        return
    try:
        if batch.ticket is None:
            _look_up(batch)
            return
        answer = call.poll_batch(batch.provider, Ticket.from_json(batch.ticket))
    except ProviderError as error:
        log.warning("batch.poll_failed", batch=str(batch.pk), provider=batch.provider, kind=error.kind)
        age_s = (clock.now() - batch.created_at).total_seconds()
        if error.kind == ErrorKind.NOT_FOUND and age_s > _FORGETFUL_S:
            _lost(batch)
        else:
            provider_batches.ask_again(batch, error.retry_after_s or provider_batches.LOOK_AGAIN_S)
        return
    if isinstance(answer, BatchPending):
        if answer.cancelable and not provider_batches.is_wanted(batch):
            _cancel(batch, Ticket.from_json(batch.ticket))
        pause_s = min(_MAX_POLL_S, provider_batches.FIRST_POLL_S * _POLL_GROWTH ** min(batch.polls, 30))
        provider_batches.ask_again(batch, pause_s, provider_status=answer.status, done=answer.done)
        return
    with closing(answer):
        hand_out.results(batch, answer)


def _cancel(batch: ProviderBatch, ticket: Ticket) -> None:
    """All of its jobs were canceled, or their time is over. That it was done is the provider's to remember: after a
    worker died here the next answer tells whether it is still to be done. What was made all the same is settled at the
    batch's end, as for any order that was left there (`hand_out.close`)."""
    try:
        stopped = call.cancel_batch(batch.provider, ticket)
    except ProviderError as error:
        log.warning("batch.cancel_failed", batch=str(batch.pk), provider=batch.provider, kind=error.kind)
    else:
        log.info("batch.canceled", batch=str(batch.pk), provider=batch.provider, stopped=stopped)


def _look_up(batch: ProviderBatch) -> None:
    """The answer to its order was lost. What is not listed as long after nothing could be sent any more as an answer
    may take was never ordered. Raises ProviderError."""
    ticket = call.find_batch(batch.provider, str(batch.pk))
    if ticket:
        ordered = Attempt.objects.filter(provider_batch=batch)
        provider_batches.adopt(batch, ticket, list(ordered.values_list("pk", flat=True)))
        return
    certain_at = batch.created_at + timedelta(seconds=settings.JOB_LEASE_S + settings.PROVIDER_READ_TIMEOUT_S)
    if clock.now() < certain_at:
        provider_batches.ask_again(batch)
        return
    error = ProviderError(ErrorKind.CONNECT, "the provider never heard of the batch")
    for job, attempt in hand_out.each(batch, AttemptStatus.STARTED):
        outcomes.failed(job, attempt, error)
    hand_out.close(batch, BatchStatus.FAILED, lambda _: Billed.NO, error=error.kind)


def _lost(batch: ProviderBatch) -> None:
    """The provider does not know its own batch."""
    for job, attempt in hand_out.each(batch, AttemptStatus.SUBMITTED):
        outcomes.unknown(job, attempt)
    hand_out.close(batch, BatchStatus.FAILED, lambda _: Billed.UNKNOWN, error=ErrorKind.NOT_FOUND)

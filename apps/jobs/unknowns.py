"""Money whose purchase has an unknown outcome: ask the provider until it is known, then charge or free it (M4).

The written policy: a canceled job pays for work that the provider delivered; a failed job never pays, the platform
does. An outcome still unknown `UNKNOWN_HOLD_S` after the attempt began counts as not billed; the comparison with the
provider's bill corrects it if it was. A job that went on at another provider pays for what that one delivered; what
turns up at the first is the platform's loss.
"""

import uuid
from contextlib import suppress
from datetime import timedelta

from django.conf import settings
from django.db import transaction

from apps.core import clock
from apps.jobs import admission, gathering, hedging, outcomes, settle
from apps.jobs.models import Attempt, Job
from apps.jobs.states import AttemptStatus, Billed, JobStatus
from apps.ledger import holds
from apps.providers import call, inbox
from apps.providers.contract import Pending, Ticket
from apps.providers.errors import ErrorKind, ProviderError

_CHECK_EVERY_S = 30
_LOOK_AGAIN_S = 1
_CHECK_BATCH_EVERY_S = 600


def resolve(attempt_id: uuid.UUID) -> None:
    """Looks once; settles the money if the outcome is known now, else looks again later."""
    at = clock.now()
    claimed = Attempt.objects.filter(pk=attempt_id, status=AttemptStatus.UNKNOWN, check_at__lte=at).update(
        check_at=at + timedelta(seconds=_CHECK_EVERY_S)
    )
    if not claimed:
        return
    attempt = Attempt.objects.select_related("job").get(pk=attempt_id)
    given_up_at = attempt.started_at + timedelta(seconds=settings.UNKNOWN_HOLD_S)
    if attempt.provider_batch_id and at < given_up_at and gathering.is_open(attempt.provider_batch_id):
        # It is told when the batch ends; nobody asks for each order in it.
        later_at = at + timedelta(seconds=_CHECK_BATCH_EVERY_S)
        Attempt.objects.filter(pk=attempt_id, status=AttemptStatus.UNKNOWN).update(check_at=later_at)
        return
    billed = _ask(attempt)
    if billed == Billed.YES and _is_wanted(attempt):
        # Delivered while the other order for the job was still on its way.
        if not hedging.take_over(attempt):
            again_at = at + timedelta(seconds=_LOOK_AGAIN_S)
            Attempt.objects.filter(pk=attempt_id, status=AttemptStatus.UNKNOWN).update(check_at=again_at)
        return
    if billed == Billed.UNKNOWN and at >= given_up_at:
        billed = Billed.NO
    if billed != Billed.UNKNOWN:
        known(attempt, billed)
        if attempt.hedged:
            # Its place there was kept as long as it was under way.
            outcomes.ended(attempt, None, told=False)


def _ask(attempt: Attempt) -> Billed:
    known = Ticket.from_json(attempt.ticket) if attempt.ticket else None
    try:
        ticket = known or _told(attempt) or _find(attempt)
        if ticket is None:
            return Billed.UNKNOWN
        if attempt.hedged and attempt.job.has_ended and outcomes.stopped(attempt):
            return Billed.NO
        answer = call.poll(attempt.provider, ticket)
    except ProviderError as error:
        if error.kind in (ErrorKind.GENERATION_FAILED, ErrorKind.CONTENT_REJECTED):
            return Billed.NO
        if error.kind == ErrorKind.CANCELED and attempt.hedged:
            # By us, after it had begun.
            return Billed.YES
        return Billed.YES if error.kind == ErrorKind.BAD_OUTPUT else Billed.UNKNOWN
    return Billed.UNKNOWN if isinstance(answer, Pending) else Billed.YES


def _is_wanted(attempt: Attempt) -> bool:
    """One of two orders for a job that still waits for its result."""
    return bool(attempt.hedged and attempt.ticket and not attempt.job.has_ended)


def _told(attempt: Attempt) -> Ticket | None:
    return inbox.ticket(attempt.provider, attempt.pk, model=attempt.provider_model)


def _find(attempt: Attempt) -> Ticket | None:
    """Asks the provider, where it can tell. Raises ProviderError."""
    if not call.capabilities(attempt.provider).finds:
        return None
    asked = admission.request_for(attempt.job, attempt.pk, attempt.provider, attempt.provider_model)
    return call.find(attempt.provider, asked)


def known(attempt: Attempt, billed: Billed) -> None:
    """Settles the money of the attempt, once."""
    if billed == Billed.UNKNOWN:
        return
    # What lost against the other order for its job says nothing of how well its route works.
    unwanted = attempt.job.status == JobStatus.CANCELED or (attempt.hedged and attempt.job.has_ended)
    status = AttemptStatus.CANCELED if unwanted else AttemptStatus.FAILED
    with transaction.atomic(durable=True):
        # Lock order: job first, as everywhere.
        job = Job.objects.select_for_update().get(pk=attempt.job_id)
        closed = Attempt.objects.filter(pk=attempt.pk, status=AttemptStatus.UNKNOWN).update(
            status=status, billed=billed, check_at=None, finished_at=clock.now()
        )
        if not closed:
            return
        if billed == Billed.YES and job.status == JobStatus.CANCELED and not job.cost_usd:
            charged = settle.charge(job, attempt)
            Job.objects.filter(pk=job.pk).update(cost_usd=charged)
            return
        if billed == Billed.YES:
            holds.absorb(
                reference=job.pk,
                amount_usd=attempt.price_usd,
                reason=f"attempt {attempt.number}: unused",
                price_id=attempt.price_id,
            )
        if job.has_ended and not Attempt.objects.filter(job=job, status=AttemptStatus.UNKNOWN).exists():
            # What another attempt delivered may have been charged before.
            with suppress(holds.HoldResolved):
                holds.release(reference=job.pk, reason="outcome known")

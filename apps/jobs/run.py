"""One touch of a job: look where it stands, take the next step, leave it for the next touch.

First run, poll, retry, recovery after a crash and an arriving provider webhook are all this one path. No transaction
is open across a network wait, and no worker slot waits for a provider.
"""

import uuid
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings

from apps.artifacts import store as artifacts
from apps.artifacts.models import Artifact
from apps.core import clock, http
from apps.core.telemetry import tracing
from apps.jobs import admission, attempts, gathering, hedging, leases, outcomes, reuse
from apps.jobs.admission import Admitted
from apps.jobs.models import Attempt, Job
from apps.jobs.states import IN_PROGRESS, AttemptStatus, Billed, Review
from apps.providers import call, inbox
from apps.providers.contract import Capabilities, GenerationRequest, Pending, Result, Ticket
from apps.providers.errors import ErrorKind, ProviderError
from apps.providers.permits import Permit
from apps.validation import moderation

log = structlog.get_logger(__name__)

MAX_CRASHES = 3
# Without news by webhook a job is polled: soon at first, then at most this seldom.
_FIRST_POLL_S = 1.0
MAX_POLL_S = 30.0
_POLL_GROWTH = 1.5
# From so many polls on it is the longest pause; a day of them is beyond what a float can be raised to.
_POLLS_GROWING = 20
_LOOK_IN_INBOX_S = 10.0
_LOOK_FOR_BATCH_S = 300.0
# A provider that just dropped a connection is given a moment.
_SEND_AGAIN_S = 1.0
STORE_AWAY_S = 10.0
_MODERATION_AWAY_S = 10.0
# Right after a submit a provider may not know the ticket it just gave.
_FORGETFUL_S = 60.0
# A download that fails is tried this often before the output counts as broken.
_MAX_FETCHES = 5


def run(job_id: uuid.UUID) -> None:
    """Takes the job's next step, if it is due and free."""
    with leases.held(job_id) as job:
        if job:
            with leases.step("run", job):
                advance(job)


def advance(job: Job) -> None:
    """The next step of a job we hold."""
    past = job.past
    current = next((one for one in past if one.status in IN_PROGRESS), None)
    if job.crashes >= MAX_CRASHES:
        outcomes.quarantine(job, current)
    elif job.cancel_requested_at:
        outcomes.cancel(job, current)
    elif current and current.status == AttemptStatus.FETCHED:
        leases.leave(job, next_at=clock.now(), ring=leases.VALIDATE)
    elif clock.now() >= job.deadline_at:
        outcomes.expire(job, current)
    elif job.review == Review.REJECTED:
        outcomes.refuse(job, "The request was looked at and refused.")
    elif current is None and not past and reuse.answers(job):
        pass
    elif current is None and (aside := attempts.aside(past)):
        attempts.lead(job, aside)
    elif current is None and gathering.gathers(job):
        gathering.wait(job)
    elif current is None:
        if past or may_be_bought(job):
            outcomes.next_attempt(job, past, buy=buy)
    elif current.provider_batch_id and gathering.is_open(current.provider_batch_id):
        # Its batch brings the news. This is only the net below.
        leases.leave(job, next_at=clock.now() + timedelta(seconds=_LOOK_FOR_BATCH_S))
    elif current.ticket is None:
        _await_news(job, current)
    else:
        _poll(job, current)


def may_be_bought(job: Job) -> bool:
    """Whether moderation lets the prompt pass, where there is one. If not, the job is ended, or left to be asked about
    again."""
    if not moderation.is_configured():
        return True
    try:
        opinion = moderation.of_text(job.prompt)
    except moderation.Unavailable as error:
        log.warning("moderation.unavailable", job=str(job.pk), error=str(error))
        if settings.MODERATION_REQUIRED:
            leases.leave(job, next_at=clock.now() + timedelta(seconds=_MODERATION_AWAY_S))
        return not settings.MODERATION_REQUIRED
    if opinion.flagged:
        outcomes.refuse(job, f"Moderation refused the prompt: {', '.join(sorted(opinion.flagged))}.")
    return not opinion.flagged


def buy(job: Job, attempt: Attempt, admitted: Admitted) -> None:
    try:
        answer = _send(job, attempt, admitted.fitted.request, admitted.permit)
    except ProviderError as error:
        if error.policy.billed == "unknown":
            _await_news(job, attempt)
        else:
            outcomes.failed(job, attempt, error)
        return
    _answered(job, attempt, answer)


def _send(
    job: Job, attempt: Attempt, request: GenerationRequest, permit: Permit | None = None
) -> Pending | Result:
    within_s = (job.deadline_at - clock.now()).total_seconds()
    return call.submit(attempt.provider, request, permit=permit, within_s=within_s)


def _answered(job: Job, attempt: Attempt, answer: Pending | Result) -> None:
    if isinstance(answer, Pending):
        attempts.submitted(job, attempt, answer, next_at=next_poll(job, attempt))
    else:
        if answer.ticket:
            # Nobody will announce it again: whoever takes over from us must be able to ask for it.
            attempts.found(attempt, answer.ticket)
        collect(job, attempt, answer)


def _await_news(job: Job, attempt: Attempt) -> None:
    """The submit went out and its answer was lost. It is sent again only where the provider buys the same key once;
    else the provider is asked what became of it, or its webhook names the ticket.

    Its ring may be lost as well, so the inbox is looked into now and then.
    """
    can = _capabilities(attempt.provider)
    ticket = inbox.ticket(attempt.provider, attempt.pk, model=attempt.provider_model)
    if ticket is None and can.idempotent and not attempt.resends:
        _send_again(job, attempt)
        return
    if ticket is None and can.finds:
        ticket = _found(job, attempt)
    if ticket:
        attempts.found(attempt, ticket)
        attempt.ticket = ticket.to_json()
        _poll(job, attempt)
        return
    # A webhook comes at the end of the work, not of the order.
    wait_s = max(settings.UNKNOWN_WAIT_S, 2 * float(job.quote["time_s"]["p95"]))
    give_up_at = attempt.started_at + timedelta(seconds=wait_s)
    if (can.webhooks or can.finds) and clock.now() < give_up_at:
        leases.leave(job, next_at=min(give_up_at, clock.now() + timedelta(seconds=_LOOK_IN_INBOX_S)))
        return
    # Nobody will tell: the bill decides.
    outcomes.unknown(job, attempt, silent=can.webhooks)


def _send_again(job: Job, attempt: Attempt) -> None:
    """Once for each attempt, a moment after the loss, whoever holds the job then. Whatever error comes of it says
    nothing about the first order: only an answer does."""
    again_at = attempt.started_at + timedelta(seconds=_SEND_AGAIN_S)
    if clock.now() < again_at:
        leases.leave(job, next_at=again_at)
        return
    if Attempt.objects.filter(pk=attempt.pk, resends=0).update(resends=1):
        attempt.resends = 1
        try:
            answer = _send(job, attempt, _request(job, attempt))
        except ProviderError as error:
            log.warning("resend.failed", job=str(job.pk), provider=attempt.provider, kind=error.kind)
        else:
            _answered(job, attempt, answer)
            return
    attempt.refresh_from_db()
    _await_news(job, attempt)


def _found(job: Job, attempt: Attempt) -> Ticket | None:
    try:
        return call.find(attempt.provider, _request(job, attempt))
    except ProviderError as error:
        log.warning("find.failed", job=str(job.pk), provider=attempt.provider, kind=error.kind)
        return None


def _request(job: Job, attempt: Attempt) -> GenerationRequest:
    """What was sent for the attempt: fitting is pure, so it comes out the same."""
    asked = admission.request_for(job, attempt.pk, attempt.provider, attempt.provider_model)
    return call.fit(attempt.provider, asked).request


def _capabilities(provider: str) -> Capabilities:
    try:
        return call.capabilities(provider)
    except ProviderError:
        # It is no longer configured: its webhooks may still arrive.
        return Capabilities(kinds=frozenset(), webhooks=True)


def _poll(job: Job, attempt: Attempt) -> None:
    try:
        answer = call.poll(attempt.provider, _ticket(attempt))
    except ProviderError as error:
        if error.ends_generation and error.policy.billed != "unknown":
            outcomes.failed(job, attempt, error)
        elif error.ends_generation or _is_lost(attempt, error):
            outcomes.unknown(job, attempt)
        else:
            # The provider can't be reached: that says nothing of the work we bought there.
            log.warning("poll.failed", job=str(job.pk), provider=attempt.provider, kind=error.kind)
            still = Pending(_ticket(attempt), "submitted", attempt.progress)
            attempts.pending(job, attempt, still, next_at=next_poll(job, attempt, error.retry_after_s))
        return
    if not isinstance(answer, Pending):
        collect(job, attempt, answer)
    elif not (hedging.is_due(job, attempt) and hedging.order(job, attempt, buy=buy)):
        attempts.pending(job, attempt, answer, next_at=next_poll(job, attempt))


def _is_lost(attempt: Attempt, error: ProviderError) -> bool:
    """The provider does not know its own ticket, and not only because it was just made."""
    age_s = (clock.now() - (attempt.submitted_at or attempt.started_at)).total_seconds()
    return error.kind == ErrorKind.NOT_FOUND and age_s > _FORGETFUL_S


def _ticket(attempt: Attempt) -> Ticket:
    return Ticket.from_json(attempt.ticket or "")


def collect(job: Job, attempt: Attempt, result: Result) -> None:
    """Fetches the outputs into our own store."""
    result_at = clock.now()
    with tracing.span("fetch"):
        _keep(job, attempt, result, result_at)


def _keep(job: Job, attempt: Attempt, result: Result, result_at: datetime) -> None:
    if any(output.flagged for output in result.outputs):
        # Never delivered, nor charged to the user; the provider bills it all the same.
        error = ProviderError(ErrorKind.CONTENT_REJECTED, "The provider flagged its own output as unsafe.")
        outcomes.failed(job, attempt, error, AttemptStatus.REJECTED, Billed.YES)
        return
    wanted = job.params.get("n") or 1
    if len(result.outputs) < wanted:
        few = ProviderError(ErrorKind.BAD_OUTPUT, f"{len(result.outputs)} outputs of {wanted}")
        outcomes.failed(job, attempt, few, AttemptStatus.REJECTED)
        return
    try:
        kept = [
            artifacts.fetch(
                team_id=job.team_id,
                url=output.url,
                data=output.data,
                kind=job.kind,
                expires_at=artifacts.expires_at(),
            )
            for output in result.outputs[:wanted]
        ]
    except artifacts.BadMedia as error:
        outcomes.failed(job, attempt, ProviderError(ErrorKind.BAD_OUTPUT, str(error)), AttemptStatus.REJECTED)
    except (artifacts.StoreUnavailable, http.FetchFailed, http.UnsafeUrl) as error:
        _fetch_later(job, attempt, result, error)
    else:
        outputs = [_remembered(artifact) for artifact in kept]
        attempts.fetched(job, attempt, result.ticket, outputs, result_at=result_at)


def _fetch_later(job: Job, attempt: Attempt, result: Result, error: Exception) -> None:
    """A paid result is never generated again because a download or our store failed."""
    log.warning("fetch.failed", job=str(job.pk), provider=attempt.provider, error=type(error).__name__)
    if result.ticket is None and attempt.ticket is None:
        # It came with the answer and exists nowhere else. It was bought, and is not bought again.
        outcomes.unknown(job, attempt)
        return
    store_away = isinstance(error, artifacts.StoreUnavailable)
    if attempt.polls >= _MAX_FETCHES and not store_away:
        outcomes.failed(job, attempt, ProviderError(ErrorKind.BAD_OUTPUT, str(error)), AttemptStatus.REJECTED)
        return
    ticket = result.ticket or _ticket(attempt)
    next_at = clock.now() + timedelta(seconds=STORE_AWAY_S if store_away else _FIRST_POLL_S)
    attempts.submitted(job, attempt, Pending(ticket, "generating", None), next_at=next_at)


def next_poll(job: Job, attempt: Attempt, not_before_s: float | None = None) -> datetime:
    """First when half of such jobs are done, then ever more seldom: the webhook usually comes before."""
    usual_s = float(job.quote["time_s"]["p50"]) if attempt.polls == 0 else 0.0
    backoff_s = min(MAX_POLL_S, _FIRST_POLL_S * _POLL_GROWTH ** min(attempt.polls, _POLLS_GROWING))
    at = clock.now() + timedelta(seconds=max(backoff_s, min(usual_s, MAX_POLL_S), not_before_s or 0.0))
    hedge_at = hedging.due_at(job, attempt)
    return min(at, hedge_at) if hedge_at and hedge_at > clock.now() else at


def _remembered(artifact: Artifact) -> dict[str, Any]:
    """What a job keeps of one output: enough to answer without a join."""
    return {
        "artifact_id": str(artifact.pk),
        "media_type": artifact.media_type,
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.sha256,
        "width": artifact.width,
        "height": artifact.height,
        "duration_s": artifact.duration_s,
    }

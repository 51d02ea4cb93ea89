"""What a user says of a job's result, and what follows from it at once."""

from dataclasses import dataclass
from decimal import Decimal

from django.db import transaction

from apps.accounts.caller import Caller
from apps.caching import store as cache
from apps.caching.models import SemanticMatch
from apps.caching.semantic import verdicts
from apps.core import money
from apps.core.errors import DomainError
from apps.jobs import submit
from apps.jobs.models import Job
from apps.jobs.states import Feedback, JobStatus
from apps.ledger import corrections


class FeedbackRefused(DomainError):
    code, status, title = "feedback_refused", 409, "This job takes no such feedback"


@dataclass(frozen=True, slots=True)
class Answer:
    """`fresh`: the job that generates it anew; None if none was wanted, or `refusal` says why there is none."""

    refunded_usd: Decimal
    fresh: Job | None
    refusal: DomainError | None


def give(caller: Caller, job: Job, verdict: Feedback) -> Answer:
    """Learns from the verdict in one transaction, gives back what was paid for a cached result, and generates afresh.

    `wrong_match`: the cached result answers another request; it is not served for this one again, in any wording.
    `bad_quality`: the result is not served again to anybody. Own generations are not refunded: the provider was paid.
    Raises FeedbackRefused for a job that has no result, was judged before, or was not answered from the cache.
    """
    if job.status != JobStatus.COMPLETED:
        raise FeedbackRefused("Only a completed job can be judged.")
    if verdict == Feedback.WRONG_MATCH and not job.is_cached:
        raise FeedbackRefused("It was generated for this request, so it can't be a wrong match.")
    refunded = _learn(caller, job, verdict)
    if verdict == Feedback.GOOD:
        return Answer(refunded, None, None)
    try:
        fresh = submit.again(caller, job, new_seed=verdict == Feedback.BAD_QUALITY)
    except DomainError as error:
        return Answer(refunded, None, error)
    return Answer(refunded, fresh, None)


@transaction.atomic(durable=True)
def _learn(caller: Caller, job: Job, verdict: Feedback) -> Decimal:
    if not Job.objects.filter(pk=job.pk, feedback=Feedback.NONE).update(feedback=verdict):
        raise FeedbackRefused("It was judged before.")
    source_id = job.cached_from or job.pk
    refunded = money.ZERO
    if verdict == Feedback.GOOD:
        verdicts.judge(job.pk, SemanticMatch.Judged.RIGHT)
        return refunded
    if verdict == Feedback.WRONG_MATCH:
        cache.bury(team_id=job.team_id, asked=bytes(job.canonical or job.fingerprint), source_id=source_id)
        verdicts.judge(job.pk, SemanticMatch.Judged.WRONG)
    else:
        cache.purge(team_id=job.team_id, source_id=source_id)
    if job.is_cached and job.cost_usd > 0:
        refunded = job.cost_usd
        corrections.refund(
            reference=job.pk, amount_usd=refunded, reason=f"feedback: {verdict}", by=f"user {caller.user_id}"
        )
    return refunded

"""A second order where the first takes long (Dean and Barroso, "The Tail at Scale", 2013): for each route an operator
may ask for it, and the platform pays for what it costs beyond the one that is used.

One order leads the job at any time. The other is set aside: its outcome is `unknown`, and `unknowns` asks for it as
for any other. Whichever is first known to have delivered leads the job to its one settlement; then the loser is taken
back, or the platform's loss. If the leading one comes to nothing, the one set aside leads again.
"""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

from apps.catalog import snapshot
from apps.catalog.snapshot import RouteInfo
from apps.core import clock
from apps.jobs import admission, attempts, leases, outcomes
from apps.jobs.admission import Admitted
from apps.jobs.models import Attempt, Job
from apps.jobs.states import IN_PROGRESS, AttemptStatus, Priority
from apps.providers import call, permits
from apps.providers.errors import ProviderError


def due_at(job: Job, attempt: Attempt) -> datetime | None:
    """When to order elsewhere too. None: never."""
    route = _route(attempt)
    if attempt.hedged or job.priority != Priority.INTERACTIVE or route is None or route.hedge_after_s is None:
        return None
    if not _may_be_left(attempt.provider):
        return None
    return (attempt.submitted_at or clock.now()) + timedelta(seconds=route.hedge_after_s)


def is_due(job: Job, attempt: Attempt) -> bool:
    at = due_at(job, attempt)
    return at is not None and at <= clock.now()


def order(job: Job, slow: Attempt, *, buy: Callable[[Job, Attempt, Admitted], None]) -> bool:
    """Orders at the next route that may be asked now, once for each job. False: there is none; the job is still ours.

    A worker that dies in here leaves a job whose order set aside leads again, or one with its new order open.
    """
    slow.hedged = True
    Attempt.objects.filter(pk=slow.pk).update(hedged=True)
    admitted = _admitted(job, slow)
    if admitted is None:
        return False
    second = None
    if attempts.set_aside(job, slow):
        second = attempts.open_one(
            job,
            admitted.choice.route,
            number=len(job.past) + 1,
            attempt_id=admitted.attempt_id,
            changes=admitted.fitted.changes,
            generation=admitted.permit.outcome_generation,
            hedged=True,
        )
    if second is None:
        # Somebody else has the job.
        permits.ended(admitted.permit, None, told=False)
        return False
    buy(job, second, admitted)
    return True


def take_over(attempt: Attempt) -> bool:
    """The order that was set aside has delivered: it leads the job. False: somebody holds the job, or it has ended."""
    leases.nudge(attempt.job_id)
    with leases.held(attempt.job_id) as job:
        if job is None:
            return False
        leading = next((one for one in job.past if one.status in IN_PROGRESS), None)
        if leading and leading.status == AttemptStatus.FETCHED:
            # It was sooner.
            leases.leave(job, next_at=clock.now(), ring=leases.VALIDATE)
        else:
            attempts.lead(job, attempt, instead_of=leading)
    return True


def _admitted(job: Job, slow: Attempt) -> Admitted | None:
    route = _route(slow)
    most_usd = route.hedge_max_usd if route else Decimal(0)
    choices = [
        choice
        for choice in outcomes.routes_besides(job, slow)
        if most_usd is None or Decimal(choice.route["amount_usd"]) <= most_usd
    ]
    return admission.find(job, choices).admitted


def _route(attempt: Attempt) -> RouteInfo | None:
    """As the catalog has it now."""
    model = snapshot.current().models.get(attempt.model)
    if model is None:
        return None
    # Of one just opened it is still text.
    own: object = attempt.route_id
    route_id = uuid.UUID(own) if isinstance(own, str) else own
    return next((route for route in model.routes if route.id == route_id), None)


def _may_be_left(provider: str) -> bool:
    """Whether an order there can be left without paying for it."""
    try:
        can = call.capabilities(provider)
    except ProviderError:
        return False
    return can.idempotent or can.cancels

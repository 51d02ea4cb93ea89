"""The waiting room of batch jobs: who waits there is due for nothing but its deadline, until `flush` calls it.

A plain run is a batch of one; a flush only claims more rows with the same batch key. The key is the route that the
job would be ordered by: one provider, one of its models. Parameters may differ from order to order.
"""

import uuid

from django.conf import settings

from apps.catalog import snapshot
from apps.core import clock, rows
from apps.jobs.models import Job, ProviderBatch
from apps.jobs.states import Priority
from apps.providers import call, registry
from apps.providers.errors import POLICIES, ErrorKind, ProviderError

# A batch that the provider would not take is sent again so often; then its jobs are ordered one by one.
MAX_BATCHES = 2

# News that came while we held the job (its `due_at` lies before the lease's end) makes it due now, as in leases.leave.
_WAIT = """
UPDATE jobs_job SET batch_route = %(route)s, lease_expires_at = NULL, rung_at = %(now)s,
    due_at = CASE WHEN due_at < lease_expires_at THEN due_at ELSE deadline_at END
WHERE id = ANY(%(ids)s) AND lease = ANY(%(leases)s) AND status = 'running'
"""


def begin(job: Job) -> None:
    """For a job that is not stored yet: it waits for a batch. Rung already, in a sense: no place comes free for it."""
    job.batch_route = _route(job)
    job.due_at = job.deadline_at


def gathers(job: Job) -> bool:
    """Whether the job, which we hold, is to be ordered together with others and not by itself."""
    if job.priority != Priority.BATCH or len(job.past) >= MAX_BATCHES:
        return False
    first = job.quote["routes"][0]
    return makes_batches(first["provider"], job.type) and all(
        attempt.provider_batch_id and not attempt.ticket and POLICIES[ErrorKind(attempt.error_kind)].retry
        for attempt in job.past
    )


def makes_batches(provider: str, kind: str) -> bool:
    """Whether the provider can be sent such orders together, and may be called at all."""
    try:
        return kind in call.capabilities(provider).batches and registry.is_available(provider)
    except ProviderError:
        return False


def is_open(batch_id: uuid.UUID) -> bool:
    """Whether a provider's batch is still under way, or its orders are being handed out."""
    return ProviderBatch.objects.filter(pk=batch_id, due_at__isnull=False).exists()


def wait(*jobs: Job) -> None:
    """Gives the jobs, which we hold, back to the waiting room of their route; each keeps its turn there."""
    by_route: dict[uuid.UUID, list[Job]] = {}
    for job in jobs:
        by_route.setdefault(_route(job), []).append(job)
    for route_id, those in by_route.items():
        rows.execute(
            _WAIT,
            {
                "route": route_id,
                "now": clock.now(),
                "ids": [job.pk for job in those],
                "leases": [job.lease for job in those],
            },
        )


def room(route_id: uuid.UUID) -> tuple[int, float]:
    """How many jobs go into one batch by the route, and how long the first waits for the others, in seconds."""
    routes = (route for model in snapshot.current().models.values() for route in model.routes)
    info = next((route for route in routes if route.id == route_id), None)
    size = info.batch_size if info else None
    wait_s = info.batch_wait_s if info else None
    return size or settings.BATCH_SIZE, settings.BATCH_WAIT_S if wait_s is None else wait_s


def _route(job: Job) -> uuid.UUID:
    return uuid.UUID(job.quote["routes"][0]["route_id"])

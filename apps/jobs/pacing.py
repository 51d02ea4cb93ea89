"""How much batch work is begun beside interactive work, and by which route: it is slowed down and never starved."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice, zip_longest

from apps.core import bell, clock, ids, rows
from apps.jobs import gathering, leases
from apps.jobs.models import Job, ProviderBatch
from apps.jobs.states import Priority

# Pieces of batch work begun in a second. Behind so many rings of interactive work it gets one place for each of them.
_PIECES = 4
_WEIGHT = 4
_LATELY_S = 5.0
# Asking about a batch is little work, mostly.
_POLLS_PER_PIECE = 2

# The routes that jobs gather by, each with its oldest: one look into the index for each.
_GATHERING = """
WITH RECURSIVE route AS (
    (SELECT batch_route AS id FROM jobs_job WHERE batch_route IS NOT NULL AND due_at IS NOT NULL
     ORDER BY batch_route LIMIT 1)
    UNION ALL
    SELECT (SELECT j.batch_route FROM jobs_job j
            WHERE j.batch_route > route.id AND j.due_at IS NOT NULL ORDER BY j.batch_route LIMIT 1)
    FROM route WHERE route.id IS NOT NULL
)
SELECT route.id, first.created_at FROM route, LATERAL (
    SELECT created_at FROM jobs_job j WHERE j.batch_route = route.id AND j.due_at IS NOT NULL ORDER BY j.id LIMIT 1
) first ORDER BY first.created_at
"""
_HOW_MANY = """
SELECT count(*) FROM (SELECT 1 FROM jobs_job WHERE batch_route = %(route)s AND due_at IS NOT NULL LIMIT %(most)s) o
"""


def ring_due() -> int:
    """Rings for what is full or has waited long enough, and for the batches to be asked about. Returns how many rings.

    Four to one: batch work is begun when nothing interactive waits for a worker, and a quarter as much of it while
    interactive jobs come in, for they share the processors; while some wait, for every four rings one piece of batch
    work joins them, so that it is slowed down and never starved.
    """
    waiting = bell.depth("io") or 0
    behind = waiting >= _WEIGHT
    queue = leases.queue(leases.RUN, can_wait=not behind)
    if behind:
        pieces = min(_PIECES, waiting // _WEIGHT)
    else:
        pieces = _PIECES // (_WEIGHT if _comes_in() else 1) - (bell.depth(queue) or 0)
    if pieces <= 0:
        return 0
    due = ProviderBatch.objects.filter(due_at__lte=clock.now()).order_by("due_at")
    asked = list(due.values_list("pk", flat=True)[: pieces * (1 if behind else _POLLS_PER_PIECE)])
    for batch_id in asked:
        bell.ring("jobs.poll_batch", id=batch_id, queue=queue)
    flushed = list(_to_flush(pieces))
    for route_id in flushed:
        bell.ring("jobs.flush", id=route_id, queue=queue)
    return len(asked) + len(flushed)


def _comes_in() -> bool:
    """Whether somebody asked for something interactive in the last moments."""
    since = ids.since(clock.now() - timedelta(seconds=_LATELY_S))
    return Job.objects.filter(pk__gte=since, priority=Priority.INTERACTIVE).exists()


def _to_flush(most: int) -> Iterator[uuid.UUID]:
    """The routes to flush now, one as often as it fills batches; by turns, so that no route waits for another."""
    ready = []
    for route_id, first_at in rows.select(_GATHERING, {}):
        size, wait_s = gathering.room(route_id)
        count = rows.select(_HOW_MANY, {"route": route_id, "most": size * most})[0][0]
        waited = clock.now() >= first_at + timedelta(seconds=wait_s)
        ready.append([route_id] * (count // size or int(waited)))
    turns = (route_id for turn in zip_longest(*ready) for route_id in turn if route_id)
    yield from islice(turns, most)

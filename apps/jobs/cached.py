"""What the cache has for a job: results whose artifacts we still hold, of the tiers that the job allows."""

import json
import uuid
from typing import Any, Final

from apps.artifacts import store as artifacts
from apps.caching import store as cache
from apps.caching.store import Hit
from apps.core import clock, rows
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.states import CachePolicy

# A hit never gives a dead link: a result that lost an artifact is none.
LOOKUP = f"SELECT * FROM ({cache.LOOKUP}) found WHERE NOT {artifacts.any_gone('found.outputs')}"  # noqa: S608
_MAX_REMEMBERED: Final = 10_000
# Team and fingerprint of what this process has answered from the cache.
_answered: set[tuple[uuid.UUID, bytes]] = set()
_ALIVE = f"SELECT NOT {artifacts.any_gone('%(outputs)s::jsonb')}"


def question(job: Job | Plan, *, policy: str = "", team_id: Any = None) -> dict[str, Any]:
    """The parameters of LOOKUP. A plan comes with its `policy` and `team_id`."""
    policy = job.cache if isinstance(job, Job) else policy
    exact = bytes(job.fingerprint)
    canonical = None if job.canonical is None else bytes(job.canonical)
    return {
        "team_id": job.team_id if isinstance(job, Job) else team_id,
        "fingerprint": exact,
        "also": None if policy == CachePolicy.EXACT else canonical,
        "asked": canonical or exact,
        "now": clock.now(),
    }


def lookup(job: Job | Plan, *, policy: str = "", team_id: Any = None) -> Hit | None:
    """The result of tier 1 or 2 that would answer it now. One query."""
    found = rows.select(LOOKUP, question(job, policy=policy, team_id=team_id))
    return next((Hit(json.loads(outputs), source, cost, tier) for outputs, source, cost, tier in found), None)


def is_alive(outputs: list[dict[str, Any]]) -> bool:
    """Whether we still hold every artifact."""
    values = {"outputs": json.dumps(outputs), "now": clock.now()}
    return bool(rows.select(_ALIVE, values)[0][0])


def answered_lately(job: Job) -> bool:
    """Whether the cache is likely to answer it: it answered the same request of the team in this process before."""
    return (job.team_id, bytes(job.fingerprint)) in _answered


def note(job: Job, *, answered: bool) -> None:
    """What the cache did with it, for `answered_lately`."""
    name = (job.team_id, bytes(job.fingerprint))
    if not answered:
        _answered.discard(name)
        return
    if len(_answered) >= _MAX_REMEMBERED:
        _answered.clear()
    _answered.add(name)

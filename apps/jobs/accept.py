"""The statement that accepts a job: stored as one that the cache has answered, or else with its money held. Whatever is
refused refuses all of it, so it needs no transaction around it."""

import json
import uuid
from datetime import datetime
from typing import Any

from apps.accounts.caller import Caller
from apps.core import rows
from apps.jobs import cached
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.states import Flight, JobStatus
from apps.ledger import holds

# How a job differs from what was asked for when it ends as it is accepted.
_ANSWERED = {
    "status": f"'{JobStatus.COMPLETED.value}'",
    "flight": f"'{Flight.ALONE.value}'",
    "due_at": "NULL",
    "rung_at": "NULL",
    "batch_route": "NULL",
    "started_at": "%(created_at)s",
    "finished_at": "%(now)s",
    "outputs": "found.outputs",
    "saved_usd": "found.cost_usd",
    "cached_from": "found.source_id",
    "cache_tier": "found.tier",
}
_RETURNED = tuple(_ANSWERED)
# Of that, what only the database knows.
_FOUND = ("outputs", "saved_usd", "cached_from", "cache_tier")
# What no job has when it is accepted, whatever was asked for.
_LATER = (
    "batch_id", "custom_id", "waiting_for", "skipped", "lease", "lease_expires_at", "crashes",
    "cancel_requested_at", "started_at", "finished_at", "outputs", "cost_usd", "saved_usd", "cached_from",
    "cache_tier", "similarity", "feedback", "quality", "error_code", "error_message", "error_retryable",
)  # fmt: skip
_NOTHING = (
    "SELECT NULL::jsonb AS outputs, NULL::numeric AS cost_usd, NULL::uuid AS source_id, NULL AS tier LIMIT 0"
)


def _insert(*, when: str = "") -> str:
    return rows.inserting(Job, when=when, instead=_ANSWERED, fresh=_LATER)


def _statement(lookup: str) -> str:
    """The job's row comes first, and its locks before those of the periods: a job that another one excludes is refused
    before it holds up anybody's budget."""
    purchase = f"""
    found AS MATERIALIZED ({lookup}),
    accepted AS (
        {_insert(when="found.source_id IS NOT NULL")} FROM (SELECT 1) one LEFT JOIN found ON true
        WHERE found.source_id IS NOT NULL OR EXISTS (SELECT 1 FROM room)
        RETURNING id, {", ".join(_RETURNED)}
    ), purchase AS MATERIALIZED (SELECT id FROM accepted WHERE cached_from IS NULL)
    """  # noqa: S608 - only our own constants are interpolated
    return holds.reserving(purchase, table="accepted", returned=("id", *_RETURNED))


_BUY, _REUSE_OR_BUY = _statement(_NOTHING), _statement(cached.LOOKUP)
# Of what the statement above does, the half that needs no plan for money: a third of its time in Postgres.
_REUSE = f"""
WITH found AS MATERIALIZED ({cached.LOOKUP})
{_insert()} FROM found RETURNING {", ".join(_FOUND)}
"""


def accept(job: Job, caller: Caller, planned: Plan, *, may_reuse: bool) -> None:
    """Stores the job: answered from the cache if it `may_reuse` and there is a result, else with its money held.

    Raises BudgetExceeded, or IntegrityError for a job that another one excludes.
    """
    values = {**(cached.question(job) if may_reuse else {}), **rows.values(job)}
    if may_reuse and cached.answered_lately(job) and _reuse(job, values):
        return
    values |= holds.asked(
        user_id=caller.user_id,
        reference=job.pk,
        amount_usd=planned.upper_bound_usd,
        price_id=uuid.UUID(planned.quote["routes"][0]["price_id"]),
    )
    _, *decided = holds.store(_REUSE_OR_BUY if may_reuse else _BUY, values, timezone=caller.timezone)
    _take_over(job, dict(zip(_RETURNED, decided, strict=True)))
    if job.is_cached:
        cached.note(job, answered=True)


def _reuse(job: Job, values: dict[str, Any]) -> bool:
    """What was answered from the cache lately is, as a rule, again. False: it is not, and nothing was stored."""
    stored = rows.select(_REUSE, values)
    if not stored:
        cached.note(job, answered=False)
        return False
    _take_over(job, _ended(job, values["now"]) | dict(zip(_FOUND, stored[0], strict=True)))
    return True


def _ended(job: Job, at: datetime) -> dict[str, Any]:
    """What the statement writes into any job that it answers (`_ANSWERED`)."""
    return {
        "status": JobStatus.COMPLETED,
        "flight": Flight.ALONE,
        "due_at": None,
        "rung_at": None,
        "batch_route": None,
        "started_at": job.created_at,
        "finished_at": at,
    }


def _take_over(job: Job, decided: dict[str, Any]) -> None:
    """What was stored instead of what was asked for."""
    decided["outputs"] = json.loads(decided["outputs"])
    for name, value in decided.items():
        setattr(job, name, value)
    rows.stored(job)

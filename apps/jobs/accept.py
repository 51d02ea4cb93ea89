"""The statement that accepts a job: stored as one that the cache has answered, or else with its money held. Whatever is
refused refuses all of it, so it needs no transaction around it."""

import json
import uuid
from collections.abc import Sequence
from typing import Any

from django.db import IntegrityError

from apps.accounts.caller import Caller
from apps.core import rows
from apps.jobs import cached
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.states import Flight, JobStatus
from apps.ledger import holds, periods, posting
from apps.ledger.models import Scope

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
_NOTHING = (
    "SELECT NULL::jsonb AS outputs, NULL::numeric AS cost_usd, NULL::uuid AS source_id, NULL AS tier LIMIT 0"
)
_STATEMENT = """{reserving}
SELECT {returned}, ARRAY(SELECT id FROM warned), {cap}
FROM (SELECT 1) one LEFT JOIN accepted ON true LEFT JOIN seen ON accepted.id IS NULL
ORDER BY seen.scope DESC
"""


def _statement(lookup: str) -> str:
    """The job's row comes first, and its locks before those of the periods: a job that another one excludes is refused
    before it holds up anybody's budget."""
    insert = rows.inserting(Job, when="found.source_id IS NOT NULL", instead=_ANSWERED)
    purchase = f"""
    found AS MATERIALIZED ({lookup}),
    accepted AS (
        {insert} FROM (SELECT 1) one LEFT JOIN found ON true
        WHERE found.source_id IS NOT NULL OR EXISTS (SELECT 1 FROM room)
        RETURNING id, {", ".join(_RETURNED)}
    ), purchase AS MATERIALIZED (SELECT id FROM accepted WHERE cached_from IS NULL)
    """  # noqa: S608 - only our own constants are interpolated
    returned = ", ".join(f"accepted.{name}" for name in ("id", *_RETURNED))
    return _STATEMENT.format(reserving=holds.reserving(purchase), returned=returned, cap=posting.CAP)


_BUY, _REUSE_OR_BUY = _statement(_NOTHING), _statement(cached.LOOKUP)


def accept(job: Job, caller: Caller, planned: Plan, *, may_reuse: bool) -> None:
    """Stores the job: answered from the cache if it `may_reuse` and there is a result, else with its money held.

    Raises BudgetExceeded, or IntegrityError for a job that another one excludes.
    """
    values = _values(job, caller, planned, may_reuse=may_reuse)
    while True:
        try:
            with rows.alone():
                told = rows.select(_REUSE_OR_BUY if may_reuse else _BUY, values)
        except IntegrityError as error:
            if holds.lost_room(error):
                continue
            raise
        accepted, warnings = told[0][: 1 + len(_RETURNED)], told[0][1 + len(_RETURNED)]
        if accepted[0]:
            break
        _open_periods_or_refuse([row[-5:] for row in told], caller, values)
    _take_over(job, accepted[1:])
    posting.warn(warnings)


def _values(job: Job, caller: Caller, planned: Plan, *, may_reuse: bool) -> dict[str, Any]:
    return {
        **(cached.question(job) if may_reuse else {}),
        **holds.asked(
            user_id=caller.user_id,
            reference=job.pk,
            amount_usd=planned.upper_bound_usd,
            price_id=uuid.UUID(planned.quote["routes"][0]["price_id"]),
        ),
        **rows.values(job),
    }


def _open_periods_or_refuse(caps: Sequence[Sequence[Any]], caller: Caller, values: dict[str, Any]) -> None:
    if len(caps) == len(Scope.values):
        raise posting.refusal(caps, requested=values["held"], job=values["job"])
    periods.open_current(user_id=caller.user_id, timezone=caller.timezone, at=values["now"])


def _take_over(job: Job, stored: Sequence[Any]) -> None:
    """What the database decided."""
    decided = dict(zip(_RETURNED, stored, strict=True))
    decided["outputs"] = json.loads(decided["outputs"])
    for name, value in decided.items():
        setattr(job, name, value)
    rows.stored(job)

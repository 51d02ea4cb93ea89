"""Many jobs in one go: stored together, and those that have not begun ended together. Set by set: no row of them costs
a statement of its own. Each is a job like any other afterwards.

Every verb but `end_queued` joins the caller's transaction. Lock order: jobs, then budgets.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import IO, Final

from django.db import connection, transaction

from apps.accounts.caller import Caller
from apps.core import clock, notify, rows
from apps.jobs import cached, settle
from apps.jobs.models import Job
from apps.jobs.states import JobStatus
from apps.ledger import many as ledger
from apps.ledger.many import Purchase

# As many as one transaction ends: it holds the lock of a budget meanwhile.
AT_ONCE: Final = 1000

_STAGE = "CREATE TEMPORARY TABLE jobs_staged (LIKE jobs_job INCLUDING DEFAULTS)"
# The same question as for one job, asked for each row.
_ROW_ASKS = {
    "team_id": "s.team_id",
    "fingerprint": "s.fingerprint",
    "also": "(CASE WHEN s.cache <> 'exact' THEN s.canonical END)",
    "asked": "COALESCE(s.canonical, s.fingerprint)",
    "now": "%(now)s",
}
_ANSWER = f"""
UPDATE jobs_staged j SET status = 'completed', due_at = NULL, rung_at = NULL, flight = '', batch_route = NULL,
    started_at = j.created_at, finished_at = %(now)s,
    outputs = hit.outputs, saved_usd = hit.cost_usd, cached_from = hit.source_id, cache_tier = hit.tier
FROM (SELECT s.id, found.* FROM jobs_staged s CROSS JOIN LATERAL ({cached.LOOKUP % _ROW_ASKS}) found
      WHERE s.cache <> 'off' AND s.review <> 'pending') hit
WHERE j.id = hit.id
RETURNING j.saved_usd
"""  # noqa: S608 - only our own constants are interpolated
_TO_BUY = """
SELECT id, (quote->>'upper_bound_usd')::numeric, (quote->'routes'->0->>'price_id')::uuid
FROM jobs_staged WHERE status = 'queued' ORDER BY id
"""
_SUMS = "SELECT count(*), COALESCE(sum(estimated_cost_usd), 0) FROM jobs_staged"
_DROP = "DELETE FROM jobs_staged WHERE id = ANY(%(ids)s::uuid[])"
_COLUMNS = ", ".join(f'"{field.column}"' for field in Job._meta.concrete_fields)
_CHANGED = {'"flight"': "'follows'", '"due_at"': "deadline_at", '"batch_route"': "NULL"}
_FOLLOWING = ", ".join(_CHANGED.get(name, name) for name in _COLUMNS.split(", "))
_INSERT = f"""
INSERT INTO jobs_job ({_COLUMNS}) SELECT {_COLUMNS} FROM jobs_staged ORDER BY id
ON CONFLICT (team_id, fingerprint) WHERE flight = 'leads' AND due_at IS NOT NULL DO NOTHING
"""  # noqa: S608
# Whoever else leads, here or already on its way, they wait for it; at the latest until their own time is over.
_INSERT_FOLLOWERS = f"""
INSERT INTO jobs_job ({_COLUMNS}) SELECT {_FOLLOWING} FROM jobs_staged s
WHERE NOT EXISTS (SELECT 1 FROM jobs_job j WHERE j.id = s.id) ORDER BY id
"""  # noqa: S608
_END_QUEUED = """
UPDATE jobs_job j SET status = %(status)s, finished_at = %(now)s, due_at = NULL,
    error_code = %(error_code)s, error_message = %(error_message)s, error_retryable = %(error_retryable)s
FROM (SELECT id FROM jobs_job WHERE batch_id = %(batch_id)s AND status = 'queued' AND id > %(after)s
      ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED) chosen
WHERE j.id = chosen.id
RETURNING j.id, j.callback_url <> ''
"""
_NUDGE = """
UPDATE jobs_job SET cancel_requested_at = COALESCE(cancel_requested_at, %(cancel_requested_at)s::timestamptz),
    due_at = LEAST(due_at, %(now)s), rung_at = NULL
WHERE batch_id = %(batch_id)s AND status = 'running'
"""


@dataclass(frozen=True, slots=True)
class Ending:
    """How what has not begun ends: `reason` is the ledger's word for the money that comes free."""

    status: JobStatus
    reason: str
    error_code: str = ""
    error_message: str = ""
    error_retryable: bool = False


CANCELED: Final = Ending(JobStatus.CANCELED, "canceled")
EXPIRED: Final = Ending(
    JobStatus.FAILED,
    "not begun by the deadline",
    "deadline_exceeded",
    "The job did not end by its deadline.",
    error_retryable=True,
)


class Staged:
    """Jobs as `submit.prepare` made them, in a table of the caller's transaction: answered from the cache where that
    can be (`cached_saved_usd`: what each such answer saved). What is left `to_buy` may be dropped before all is
    inserted."""

    def __init__(self, lines: IO[bytes]) -> None:
        """`lines`: of `rows.line`, of jobs with rising ids."""
        with connection.cursor() as cursor:
            cursor.execute(_STAGE)
        rows.copy(Job, lines, into="jobs_staged")
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE jobs_staged")
        self.cached_saved_usd = [saved_usd for (saved_usd,) in rows.select(_ANSWER, {"now": clock.now()})]
        self.to_buy = [Purchase(*found) for found in rows.select(_TO_BUY, {})]

    def drop(self, ids: Sequence[uuid.UUID]) -> None:
        """These are not wanted."""
        rows.execute(_DROP, {"ids": list(ids)})
        dropped = set(ids)
        self.to_buy = [purchase for purchase in self.to_buy if purchase.reference not in dropped]

    def insert(self, caller: Caller) -> tuple[int, Decimal]:
        """Stores the jobs with their holds; those that the cache answered are recorded by `tally`. Equal ones share one
        render: the first leads, unless another job does already, and the others follow. Returns how many there are and
        their estimated cost, USD.

        The budgets are locked last, and briefly. Raises BudgetExceeded.
        """
        [(count, estimated_usd)] = rows.select(_SUMS, {})
        rows.execute(_INSERT, {})
        rows.execute(_INSERT_FOLLOWERS, {})
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE jobs_staged")
        ledger.reserve(user_id=caller.user_id, timezone=caller.timezone, purchases=self.to_buy)
        return count, estimated_usd

    @property
    def held_usd(self) -> Decimal:
        return sum((purchase.amount_usd for purchase in self.to_buy), Decimal(0))


def announce_cached(batch_id: uuid.UUID) -> None:
    """Tells of the items that ended as they were accepted, where they say whom."""
    for job in Job.objects.filter(batch_id=batch_id, status=JobStatus.COMPLETED).exclude(callback_url=""):
        settle.announce_to(job)


def end_queued(batch_id: uuid.UUID, ending: Ending) -> int:
    """Ends the items of the batch that have not begun, and frees what they hold. Returns how many.

    What a worker is just claiming is left to it: it is no longer queued.
    """
    count, after = 0, uuid.UUID(int=0)
    while ended := _end_some(batch_id, ending, after):
        count, after = count + len(ended), max(ended)
    return count


@transaction.atomic(durable=True)
def _end_some(batch_id: uuid.UUID, ending: Ending, after: uuid.UUID) -> list[uuid.UUID]:
    values = {
        "batch_id": batch_id,
        "after": after,
        "limit": AT_ONCE,
        "now": clock.now(),
        "status": ending.status.value,
        "error_code": ending.error_code,
        "error_message": ending.error_message,
        "error_retryable": ending.error_retryable,
    }
    ended = rows.select(_END_QUEUED, values)
    ids = [job_id for job_id, _ in ended]
    ledger.release(ids, reason=ending.reason)
    notify.all_ended(ids)
    for job in Job.objects.filter(pk__in=[job_id for job_id, calls_back in ended if calls_back]):
        settle.announce_to(job)
    return ids


def nudge_running(batch_id: uuid.UUID, *, cancel: bool) -> int:
    """Makes the items that have begun due now. `cancel`: and asks for them to be canceled. Returns how many."""
    now = clock.now()
    values = {"batch_id": batch_id, "now": now, "cancel_requested_at": now if cancel else None}
    return rows.execute(_NUDGE, values)

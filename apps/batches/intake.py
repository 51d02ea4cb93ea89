"""Accepting a batch: every line is checked as POST /v1/jobs checks, then all jobs are stored and paid for together.

Lines are read and checked one by one into a file, outside of any transaction; one transaction of a few statements then
makes them jobs. So neither the memory nor the locks of a budget grow with the batch.
"""

import hashlib
import io
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from tempfile import TemporaryFile
from typing import IO, Any, Final

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Sum

from apps.accounts.caller import Caller
from apps.batches import documents, roll_up
from apps.batches.models import Batch, Refusal
from apps.batches.serializers import Item, Options
from apps.batches.upload import Upload
from apps.core import clock, ids, inputs, money, rows
from apps.core.errors import DomainError, InvalidRequest
from apps.core.telemetry import tracing
from apps.jobs import many, submit
from apps.jobs.capacity import QueueFull
from apps.jobs.models import Job
from apps.jobs.submit import IdempotencyKeyReused
from apps.ledger import statements
from apps.ledger.holds import BudgetExceeded
from apps.ledger.many import Purchase

MAX_ITEMS: Final = 50_000
# Nobody reads more; all of a batch accepted in part are in its results.
MAX_SHOWN: Final = 100
# How often what fits the budget is reckoned anew because another purchase took of it meanwhile.
_TRIES: Final = 3
_RETRY_AFTER_S: Final = 60
_NAMESPACE: Final = 7_2026  # of the advisory locks, apart from those of others


class BatchInvalid(DomainError):
    """`errors`: of the first 100 bad fields `{line, custom_id, field, message, code}`."""

    code, status, title = "batch_invalid", 422, "Some lines of the batch are not valid"


@dataclass(slots=True)
class _Read:
    """What the lines came to. `jobs` and `refusals` are lines of COPY; `places` says, for jobs that may still be
    refused, the line and custom id of each."""

    batch: Batch
    jobs: IO[bytes]
    refusals: IO[bytes]
    names: set[str] = field(default_factory=set)
    refused: list[Refusal] = field(default_factory=list)
    refused_count: int = 0
    places: dict[uuid.UUID, tuple[int, str]] = field(default_factory=dict)


def accept(
    caller: Caller, upload: Upload, options: Options, *, key: str | None, traceparent: str | None = None
) -> tuple[Batch, bool]:
    """The batch, and whether it is a replay of an earlier one with the same Idempotency-Key.

    `traceparent`: of the trace that the batch and its items are to be a part of.

    Raises BatchInvalid, BudgetExceeded, QueueFull, InvalidRequest, MalformedRequest or IdempotencyKeyReused; then
    nothing is stored or held.
    """
    digest = hashlib.sha256(
        upload.digest + json.dumps(options.model_dump(), sort_keys=True).encode()
    ).digest()
    if earlier := _earlier(caller, key, digest):
        return earlier, True
    if options.callback_url:
        submit.check_callback(options.callback_url)
    with TemporaryFile(prefix="batch-jobs-") as jobs, TemporaryFile(prefix="batch-refusals-") as refusals:
        read = _Read(_new_batch(caller, options, key, digest, traceparent), jobs, refusals)
        tracing.note(batch_id=str(read.batch.pk), team_id=str(caller.team_id))
        _read(caller, upload, read, partial=options.partial)
        rows.let_go()
        try:
            _store_what_fits(caller, read, partial=options.partial)
        except IntegrityError:
            # Insert first instead of check-then-act: whoever loses the race reads the winner's batch.
            earlier = _earlier(caller, key, digest)
            if earlier is None:
                raise
            return earlier, True
    return read.batch, False


def _new_batch(
    caller: Caller, options: Options, key: str | None, digest: bytes, traceparent: str | None
) -> Batch:
    at = clock.now()
    return Batch(
        team_id=caller.team_id,
        user_id=caller.user_id,
        callback_url=options.callback_url or "",
        metadata=options.metadata,
        idempotency_key=key,
        request_digest=digest if key else None,
        traceparent=traceparent,
        created_at=at,
        expires_at=at + timedelta(hours=int(options.completion_window.removesuffix("h"))),
    )


def _earlier(caller: Caller, key: str | None, digest: bytes) -> Batch | None:
    """The batch that holds the key. Raises IdempotencyKeyReused if it came of another body."""
    if key is None:
        return None
    batch = Batch.objects.filter(user_id=caller.user_id, idempotency_key=key).first()
    if batch and bytes(batch.request_digest or b"") != digest:
        raise IdempotencyKeyReused("Use a new key for a new batch; this one belongs to another.")
    return batch


def _read(caller: Caller, upload: Upload, read: _Read, *, partial: bool) -> None:
    """Checks every line and writes what it came to. Raises BatchInvalid or InvalidRequest if that is no batch."""
    row_ids, count = ids.rising(), 0
    for line, value in upload.items():
        count += 1
        if count > MAX_ITEMS:
            raise InvalidRequest.field("items", f"A batch has at most {MAX_ITEMS} items", "too_many")
        row_id = next(row_ids)
        try:
            job = _job(caller, value, read)
        except DomainError as error:
            _refuse(read, row_id, line, _custom_id(value), _faults(error))
            if not partial and len(read.refused) >= MAX_SHOWN:
                break
            continue
        job.id = row_id
        if partial:
            read.places[row_id] = (line, job.custom_id)
        read.jobs.write(rows.line(job))
        _check_tier(caller, len(read.names))
    if count == 0:
        raise InvalidRequest.field("items", "There are none", "missing")
    if read.refused and not (partial and read.names):
        raise _invalid(read.refused)


def _job(caller: Caller, value: Any, read: _Read) -> Job:
    if isinstance(value, DomainError):
        raise value
    item = inputs.parse(Item, value)
    if item.custom_id in read.names:
        raise InvalidRequest.field("custom_id", "appears twice in the batch", "duplicate")
    job, _ = submit.prepare(caller, item, deadline_at=read.batch.expires_at)
    read.names.add(item.custom_id)
    job.batch_id, job.custom_id = read.batch.pk, item.custom_id
    job.traceparent = read.batch.traceparent
    return job


def _check_tier(caller: Caller, count: int) -> None:
    limit = caller.tier.max_batch_items
    if count > limit:
        raise InvalidRequest.field("items", f"The tier allows batches of {limit} items", "too_many")


def _refuse(read: _Read, row_id: uuid.UUID, line: int, custom_id: str, errors: list[dict[str, str]]) -> None:
    refusal = Refusal(id=row_id, batch_id=read.batch.pk, line=line, custom_id=custom_id, errors=errors)
    read.refused_count += 1
    read.refusals.write(rows.line(refusal))
    if len(read.refused) < MAX_SHOWN:
        read.refused.append(refusal)


def _invalid(refused: Sequence[Refusal]) -> BatchInvalid:
    faults = [fault for refusal in refused for fault in documents.faults(refusal)][:MAX_SHOWN]
    first = faults[0]
    return BatchInvalid(f"Line {first['line']}: {first['field']}: {first['message']}", errors=faults)


def _custom_id(value: Any) -> str:
    """Of a line that is not valid: to be found by, if there is one."""
    found = value.get("custom_id") if isinstance(value, dict) else None
    return found[:255] if isinstance(found, str) else ""


def _faults(error: DomainError) -> list[dict[str, str]]:
    errors: list[dict[str, str]] | None = error.extra.get("errors")
    where = str(error.extra.get("field") or "body")
    return errors or [{"field": where, "message": error.detail, "code": error.code}]


def _store_what_fits(caller: Caller, read: _Read, *, partial: bool) -> None:
    """In part: what fits the budget as it is seen now; another purchase may be quicker, then it is seen anew."""
    for left in reversed(range(_TRIES)):
        try:
            _store(caller, read, _beyond(caller) if partial else None)
        except BudgetExceeded:
            if not (partial and left):
                raise
        else:
            return


@transaction.atomic(durable=True)
def _store(
    caller: Caller, read: _Read, beyond: Callable[[Sequence[Purchase]], dict[uuid.UUID, str]] | None
) -> None:
    batch = read.batch
    _take_turns(caller)
    rows.insert(batch)
    read.jobs.seek(0)
    staged = many.Staged(read.jobs)
    dropped = beyond(staged.to_buy) if beyond else {}
    if len(dropped) == len(read.names):
        # Nothing fits: the refusal says by how much.
        dropped = {}
    staged.drop(list(dropped))
    batch.total, batch.estimated_cost_usd = staged.insert(caller)
    _check_open_items(caller, adding=len(staged.to_buy))
    refused = [_beyond_budget(read, job_id, why) for job_id, why in dropped.items()]
    for lines in (read.refusals, io.BytesIO(b"".join(map(rows.line, refused)))):
        lines.seek(0)
        rows.copy(Refusal, lines)
    batch.refused = read.refused_count + len(refused)
    batch.held_usd = staged.held_usd
    batch.completed = batch.cached = len(staged.cached_saved_usd)
    batch.saved_usd = sum(staged.cached_saved_usd, money.ZERO)
    batch.save(force_update=True)
    many.announce_cached(batch.pk)
    if roll_up.end(batch.pk):
        batch.refresh_from_db()
    if batch.idempotency_key:
        batch.accepted_body = documents.accepted(batch, first_refusals(batch))
        batch.save(update_fields=["accepted_body"])


def first_refusals(batch: Batch) -> list[Refusal]:
    """Those that are shown with the batch."""
    return list(batch.refusals.order_by("id")[:MAX_SHOWN]) if batch.refused else []


def _take_turns(caller: Caller) -> None:
    """One intake at a time for a team: two that share items would wait for each other's leaders. They may take longer
    than what else the database is asked for."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '60s'")
        cursor.execute("SET LOCAL statement_timeout = '120s'")
        cursor.execute(
            "SELECT pg_advisory_xact_lock(%s, hashtext(%s::text))", [_NAMESPACE, str(caller.team_id)]
        )


def _check_open_items(caller: Caller, *, adding: int) -> None:
    """Raises QueueFull if these are too many beside those of the user's other batches. After the budget was reserved:
    that lock makes a user's batches take turns, so the count is exact."""
    others = Batch.objects.filter(user_id=caller.user_id, finished_at=None)
    ended = F("completed") + F("failed") + F("canceled") + F("expired")
    open_items: int = others.aggregate(open=Sum(F("total") - ended))["open"] or 0
    limit = caller.tier.max_batch_items
    if open_items + adding > limit:
        raise QueueFull(
            f"At most {limit} items of your batches may be queued or running.",
            retry_after_s=_RETRY_AFTER_S,
            limit=limit,
        )


def _beyond(caller: Caller) -> Callable[[Sequence[Purchase]], dict[uuid.UUID, str]]:
    """Which of the purchases, taken in order, do not fit every cap as it is now, and why."""

    def find(purchases: Sequence[Purchase]) -> dict[uuid.UUID, str]:
        caps = statements.caps(user_id=caller.user_id, timezone=caller.timezone)
        balances = [balance for balance in (caps.user_month, caps.user_day, caps.team_month) if balance]
        room = min(each.limit_usd - each.spent_usd - each.held_usd for each in balances)
        room += settings.BUDGET_OVERDRAFT_USD
        found: dict[uuid.UUID, str] = {}
        for purchase in purchases:
            if caps.max_job_usd is not None and purchase.amount_usd > caps.max_job_usd:
                found[purchase.reference] = f"one job may cost {money.text(caps.max_job_usd)} USD"
            elif purchase.amount_usd > room:
                found[purchase.reference] = f"{money.text(max(money.ZERO, room))} USD remain"
            else:
                room -= purchase.amount_usd
        return found

    return find


def _beyond_budget(read: _Read, job_id: uuid.UUID, why: str) -> Refusal:
    line, custom_id = read.places[job_id]
    error = {"field": "body", "message": f"The budget does not cover it: {why}.", "code": BudgetExceeded.code}
    return Refusal(id=job_id, batch_id=read.batch.pk, line=line, custom_id=custom_id, errors=[error])

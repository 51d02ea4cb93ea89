"""Ops overrules the checks of an attempt's outputs: a person looked, and says so with a reason."""

from typing import Any

from django.db import transaction

from apps.artifacts import store as artifacts
from apps.caching import store as cache
from apps.core import clock, money
from apps.jobs.models import Attempt, Job
from apps.jobs.states import AttemptStatus, JobStatus
from apps.ledger import corrections
from apps.validation import takedowns


class NothingToOverrule(ValueError):
    """The attempt is not one that can be decided so."""


@transaction.atomic(durable=True)
def accept(attempt: Attempt, *, reason: str, by: str) -> None:
    """Ends the quarantine of what was refused: its files are served again and kept as long as others. The job is not
    charged: it has ended without them. Raises NothingToOverrule."""
    _require(attempt, AttemptStatus.REJECTED)
    _note(attempt, "accept", reason=reason, by=by)
    for kept in attempt.outputs:
        artifacts.release(kept["artifact_id"])


@transaction.atomic(durable=True)
def reject(attempt: Attempt, *, reason: str, by: str) -> None:
    """Withdraws what was delivered: its files are served no more, also not from the cache, and who paid for it is paid
    back. Raises NothingToOverrule."""
    _require(attempt, AttemptStatus.ACCEPTED)
    _withdraw(attempt, "reject", reason=reason, by=by)


@transaction.atomic(durable=True)
def take_down(attempt: Attempt, *, reason: str, by: str) -> None:
    """Withdraws it, and no file with the same bytes or the same look is delivered again, to anybody.

    What was refused or withdrawn before can be taken down as well. Raises NothingToOverrule.
    """
    now = _locked(attempt)
    if not now.outputs or now.status not in (AttemptStatus.ACCEPTED, AttemptStatus.REJECTED):
        raise NothingToOverrule(f"attempt {now.number} is {now.status}")
    for kept in now.outputs:
        takedowns.add(
            {kept["sha256"], kept.get("made_sha256", "")}, look=kept.get("phash", ""), reason=reason
        )
    if now.status == AttemptStatus.ACCEPTED and not _decided(now):
        _withdraw(now, "take down", reason=reason, by=by)
    for kept in now.outputs:
        artifacts.quarantine(kept["artifact_id"])


def _withdraw(attempt: Attempt, decision: str, *, reason: str, by: str) -> None:
    _note(attempt, decision, reason=reason, by=by)
    for kept in attempt.outputs:
        artifacts.quarantine(kept["artifact_id"])
    cache.withdraw(source_id=attempt.job_id)
    job = Job.objects.get(pk=attempt.job_id)
    if job.status == JobStatus.COMPLETED and job.cost_usd > money.ZERO:
        corrections.refund(reference=job.pk, amount_usd=job.cost_usd, reason=f"withdrawn: {reason}", by=by)


def _require(attempt: Attempt, status: AttemptStatus) -> None:
    """Locks the row, so that nobody decides twice."""
    now = _locked(attempt)
    decided = _decided(now)
    if now.status != status or decided or not now.outputs:
        raise NothingToOverrule(f"attempt {now.number} is {now.status}{' and decided' if decided else ''}")


def _locked(attempt: Attempt) -> Attempt:
    return Attempt.objects.select_for_update().get(pk=attempt.pk)


def _decided(attempt: Attempt) -> bool:
    return bool((attempt.quality or {}).get("override"))


def _note(attempt: Attempt, decision: str, *, reason: str, by: str) -> None:
    made: dict[str, Any] = {"decision": decision, "reason": reason, "by": by, "at": clock.now().isoformat()}
    attempt.quality = {**(attempt.quality or {}), "override": made}
    Attempt.objects.filter(pk=attempt.pk).update(quality=attempt.quality)

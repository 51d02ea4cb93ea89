"""The touch that needs a processor instead of the network: check the outputs, then accept them or go on."""

import json
import uuid
from datetime import datetime, timedelta
from typing import Any

from apps.artifacts import store as artifacts
from apps.core import clock
from apps.jobs import leases, outcomes, run, settle
from apps.jobs.models import Attempt, Job
from apps.jobs.states import AttemptStatus
from apps.providers.errors import ErrorKind, ProviderError
from apps.validation import output, standards
from apps.validation.checks.results import CheckResult
from apps.validation.output import Report

CHECK_AGAIN_S = 10.0
# A check that may be missing is tried for so long, then the output is accepted without it, and its coverage says so.
CHECK_PATIENCE_S = 60.0
_MAY_BE_MISSING = frozenset({"content_alignment"})
_NOTE_UNFINISHED = """
UPDATE jobs_attempt SET quality = %(quality)s::jsonb WHERE id = %(attempt_id)s AND status = 'fetched'
"""
# What a refusal by a check means for the attempt; of the others: a bad output.
_KINDS = {"content_safety": ErrorKind.UNSAFE_OUTPUT, "legal_compliance": ErrorKind.UNSAFE_OUTPUT}


def validate(job_id: uuid.UUID) -> None:
    """Checks the fetched outputs of the job, if it is due and free."""
    with leases.held(job_id) as job:
        if job:
            with leases.step("validate", job):
                _touch(job)


def _touch(job: Job) -> None:
    attempt = next((past for past in job.past if past.status == AttemptStatus.FETCHED), None)
    if attempt is None or job.cancel_requested_at or job.crashes >= run.MAX_CRASHES:
        run.advance(job)
    else:
        _judge(job, attempt)


def _judge(job: Job, attempt: Attempt) -> None:
    try:
        sent = _sent(job, attempt)
        reports = [_check(job, attempt, kept, sent) for kept in attempt.outputs]
    except artifacts.StoreUnavailable:
        _wait_for_store(job, attempt)
        return
    worst = min(reports, key=lambda report: (report.passed, report.score or 0.0))
    if refusal := next(filter(None, (report.refusal() for report in reports)), None):
        _reject(job, attempt, refusal, worst)
    elif unfinished := next(filter(None, (report.unfinished() for report in reports)), None):
        _check_later(job, attempt, unfinished, worst)
    else:
        settle.complete(job, attempt, outputs=attempt.outputs, quality=worst.to_json())
        outcomes.ended(attempt, None)


def _reject(job: Job, attempt: Attempt, refusal: CheckResult, worst: Report) -> None:
    """The output is not delivered nor charged to the user. What it is kept for is to be looked at by ops."""
    for kept in attempt.outputs:
        artifacts.quarantine(kept["artifact_id"])
    error = ProviderError(
        _KINDS.get(refusal.name, ErrorKind.BAD_OUTPUT), f"{refusal.name}: {refusal.problems}"
    )
    outcomes.failed(job, attempt, error, AttemptStatus.REJECTED, quality=worst.to_json())


def _check_later(job: Job, attempt: Attempt, unfinished: CheckResult, worst: Report) -> None:
    """A check that could not be made is made again; the output is not bought again for it."""
    if clock.now() >= job.deadline_at:
        error = ProviderError(
            ErrorKind.BAD_OUTPUT, f"{unfinished.name} could not be made by the job's deadline"
        )
        outcomes.failed(job, attempt, error, AttemptStatus.REJECTED)
    else:
        since = _unfinished_since(attempt) or clock.now()
        quality = {**worst.to_json(), "unfinished_since": since.isoformat()}
        leases.leave(
            job,
            next_at=clock.now() + timedelta(seconds=CHECK_AGAIN_S),
            noting=_NOTE_UNFINISHED,
            values={"quality": json.dumps(quality), "attempt_id": attempt.pk},
        )


def _unfinished_since(attempt: Attempt) -> datetime | None:
    noted = (attempt.quality or {}).get("unfinished_since")
    return datetime.fromisoformat(noted) if noted else None


def _tolerated(attempt: Attempt) -> frozenset[str]:
    """What the output may be accepted without by now."""
    since = _unfinished_since(attempt)
    patient = since is None or clock.now() - since < timedelta(seconds=CHECK_PATIENCE_S)
    return frozenset() if patient else _MAY_BE_MISSING


def _wait_for_store(job: Job, attempt: Attempt) -> None:
    """What is paid for is not bought again because our store is away, but a job does not wait for ever."""
    if clock.now() >= job.deadline_at:
        error = ProviderError(ErrorKind.BAD_OUTPUT, "our store did not give it back by the job's deadline")
        outcomes.failed(job, attempt, error, AttemptStatus.REJECTED)
    else:
        leases.leave(job, next_at=clock.now() + timedelta(seconds=run.STORE_AWAY_S))


def _sent(job: Job, attempt: Attempt) -> dict[str, Any]:
    """The parameters that the provider was told: it is held to those, not to what it could not be told."""
    sent = {**job.params, **{change["param"]: change["sent"] for change in attempt.changes}}
    return {name: value for name, value in sent.items() if value is not None}


def _check(job: Job, attempt: Attempt, kept: dict[str, Any], sent: dict[str, Any]) -> Report:
    """Checks one output, marks it as made by AI if it is good, and completes what we remember of it."""
    artifact_id = uuid.UUID(kept["artifact_id"])
    standard = standards.of(model=attempt.model, team_id=job.team_id)
    with artifacts.local_path(artifact_id) as path:
        report = output.check(
            path,
            kind=job.kind,
            media_type=kept["media_type"],
            requested=sent,
            prompt=job.prompt,
            standard=standard,
            tolerated=_tolerated(attempt),
        )
        if report.media is None:
            return report
        measures: dict[str, Any] = {
            "width": report.media.width,
            "height": report.media.height,
            "duration_s": report.media.duration_s,
        }
        kept.update(measures)
        kept.update(report.look)
        if not report.passed:
            artifacts.describe(artifact_id, **measures)
            return report
        report, content = output.marked(report, path, media_type=kept["media_type"])
    if content is not None:
        digest = artifacts.replace(artifact_id, content, media_type=kept["media_type"], **measures)
        kept.update(sha256=digest, size_bytes=len(content))
    return report

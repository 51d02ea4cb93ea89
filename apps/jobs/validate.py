"""The touch that needs a processor instead of the network: check the outputs, then accept them or go on."""

import uuid
from datetime import timedelta
from typing import Any

from apps.artifacts import store as artifacts
from apps.core import clock
from apps.jobs import leases, outcomes, run, settle
from apps.jobs.models import Attempt, Job
from apps.jobs.states import AttemptStatus
from apps.providers.errors import ErrorKind, ProviderError
from apps.validation import output
from apps.validation.output import Report


def validate(job_id: uuid.UUID) -> None:
    """Checks the fetched outputs of the job, if it is due and free."""
    with leases.held(job_id) as job:
        if job is None:
            return
        attempt = next((past for past in job.past if past.status == AttemptStatus.FETCHED), None)
        if attempt is None or job.cancel_requested_at or job.crashes >= run.MAX_CRASHES:
            run.advance(job)
        else:
            _judge(job, attempt)


def _judge(job: Job, attempt: Attempt) -> None:
    try:
        sent = _sent(job, attempt)
        reports = [_check(job, kept, sent) for kept in attempt.outputs]
    except artifacts.StoreUnavailable:
        _wait_for_store(job, attempt)
        return
    failed = [check for report in reports for check in report.checks if check.status == "failed"]
    if failed:
        problems = "; ".join(failed[0].details.get("problems", ()))
        error = ProviderError(ErrorKind.BAD_OUTPUT, f"{failed[0].name}: {problems}")
        outcomes.failed(job, attempt, error, AttemptStatus.REJECTED)
        return
    worst = min(reports, key=lambda report: report.score or 0.0)
    settle.complete(job, attempt, outputs=attempt.outputs, quality=worst.to_json())
    outcomes.ended(attempt, None)


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


def _check(job: Job, kept: dict[str, Any], sent: dict[str, Any]) -> Report:
    """Checks one output and completes what we remember of it with its measures."""
    artifact_id = uuid.UUID(kept["artifact_id"])
    with artifacts.local_path(artifact_id) as path:
        report = output.check(path, kind=job.kind, media_type=kept["media_type"], requested=sent)
    if media := report.media:
        artifacts.describe(artifact_id, width=media.width, height=media.height, duration_s=media.duration_s)
        kept.update(width=media.width, height=media.height, duration_s=media.duration_s)
    return report

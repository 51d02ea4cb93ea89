"""The touch that needs a processor instead of the network: check the outputs, then accept them or go on."""

import uuid

from apps.artifacts import store as artifacts
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
        attempt = Attempt.objects.filter(job=job, status=AttemptStatus.FETCHED).first()
        if attempt is None or job.cancel_requested_at or job.crashes >= run.MAX_CRASHES:
            run.advance(job)
        else:
            _judge(job, attempt)


def _judge(job: Job, attempt: Attempt) -> None:
    reports = [_check(job, snapshot) for snapshot in attempt.outputs]
    failure = next((report for report in reports if not report.passed), None)
    if failure:
        failing = next(check for check in failure.checks if check.status == "failed")
        error = ProviderError(
            ErrorKind.BAD_OUTPUT, f"{failing.name}: {failing.details.get('reason', 'failed')}"
        )
        outcomes.failed(job, attempt, error, AttemptStatus.REJECTED)
        return
    worst = min(reports, key=lambda report: report.score or 0.0)
    settle.complete(job, attempt, outputs=attempt.outputs, quality=worst.to_json())


def _check(job: Job, snapshot: dict[str, object]) -> Report:
    """Checks one output and completes what we remember of it with its measures."""
    with artifacts.local_path(str(snapshot["artifact_id"])) as path:
        report = output.check(
            path, kind=job.type, media_type=str(snapshot["media_type"]), requested=job.params
        )
    if report.media:
        measures = {
            "width": report.media.width,
            "height": report.media.height,
            "duration_s": report.media.duration_s,
        }
        artifacts.describe(snapshot["artifact_id"], **measures)
        snapshot.update(measures)
    return report

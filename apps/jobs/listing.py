"""GET /v1/jobs: one user's jobs, newest first, page by page along the time-ordered id."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter

from apps.accounts.caller import Caller
from apps.core import clock, inputs
from apps.core.errors import InvalidRequest
from apps.jobs import documents
from apps.jobs.models import Attempt, Job, JobQuerySet
from apps.jobs.states import JobStatus, Kind

_DEFAULT_SIZE, _MAX_SIZE = 50, 200
PARAMETERS = [
    OpenApiParameter("cursor", str, description="`next` of the page before"),
    OpenApiParameter("page_size", int, description=f"1 to {_MAX_SIZE}, {_DEFAULT_SIZE} by default"),
    OpenApiParameter("status", str, enum=JobStatus.values),
    OpenApiParameter("type", str, enum=Kind.values),
    OpenApiParameter("model", str),
    OpenApiParameter("batch_id", UUID, description="Only the items of this batch"),
    OpenApiParameter("created_after", datetime),
    OpenApiParameter("created_before", datetime),
]
_NAMES = {parameter.name for parameter in PARAMETERS}


def page(caller: Caller, query: Mapping[str, str]) -> dict[str, Any]:
    """`{data: [jobs], next: cursor or null}`. Raises InvalidRequest naming the parameter."""
    inputs.only(query, _NAMES)
    size = inputs.size(query.get("page_size"), default=_DEFAULT_SIZE, most=_MAX_SIZE)
    jobs = list(_filtered(caller, query).order_by("-id")[: size + 1])
    newest = {attempt.job_id: attempt for attempt in Attempt.objects.filter(job__in=jobs).order_by("number")}
    at = clock.now()
    return {
        "data": [documents.brief(job, newest.get(job.pk), at) for job in jobs[:size]],
        "next": str(jobs[size - 1].pk) if len(jobs) > size else None,
    }


def _filtered(caller: Caller, query: Mapping[str, str]) -> JobQuerySet:
    jobs = Job.objects.filter(user_id=caller.user_id)
    if "cursor" in query:
        jobs = jobs.filter(pk__lt=inputs.row_id("cursor", query["cursor"], "is not one that this list gave"))
    if "status" in query:
        jobs = jobs.filter(status=inputs.one_of("status", query["status"], JobStatus.values))
    if "type" in query:
        jobs = jobs.filter(type=inputs.one_of("type", query["type"], Kind.values))
    if "model" in query:
        jobs = jobs.filter(model=_model(query["model"]))
    if "batch_id" in query:
        jobs = jobs.filter(batch_id=inputs.row_id("batch_id", query["batch_id"]))
    if "created_after" in query:
        jobs = jobs.filter(created_at__gt=inputs.time("created_after", query["created_after"]))
    if "created_before" in query:
        jobs = jobs.filter(created_at__lt=inputs.time("created_before", query["created_before"]))
    return jobs


def _model(text: str) -> str:
    if not text.isprintable():
        raise InvalidRequest.field("model", "is no name of a model")
    return text

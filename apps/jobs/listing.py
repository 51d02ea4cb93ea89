"""GET /v1/jobs: one user's jobs, newest first, page by page along the time-ordered id."""

import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from apps.accounts.caller import Caller
from apps.core import clock
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
    OpenApiParameter("created_after", datetime),
    OpenApiParameter("created_before", datetime),
]
_NAMES = {parameter.name for parameter in PARAMETERS}


class AnyAccept(DefaultContentNegotiation):
    """For the view that streams: `Accept: text/event-stream` is not DRF's to refuse."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


def page(caller: Caller, query: Mapping[str, str]) -> dict[str, Any]:
    """`{data: [jobs], next: cursor or null}`. Raises InvalidRequest naming the parameter."""
    for name in query:
        if name not in _NAMES:
            raise InvalidRequest.field(name, "is not a parameter of this list", "unknown")
    size = _size(query.get("page_size"))
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
        jobs = jobs.filter(pk__lt=_cursor(query["cursor"]))
    if "status" in query:
        jobs = jobs.filter(status=_one_of("status", query["status"], JobStatus.values))
    if "type" in query:
        jobs = jobs.filter(type=_one_of("type", query["type"], Kind.values))
    if "model" in query:
        jobs = jobs.filter(model=_model(query["model"]))
    if "created_after" in query:
        jobs = jobs.filter(created_at__gt=_time("created_after", query["created_after"]))
    if "created_before" in query:
        jobs = jobs.filter(created_at__lt=_time("created_before", query["created_before"]))
    return jobs


def _size(text: str | None) -> int:
    if text is None:
        return _DEFAULT_SIZE
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= _MAX_SIZE:
        raise InvalidRequest.field("page_size", f"should be a whole number from 1 to {_MAX_SIZE}")
    return int(text)


def _cursor(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise InvalidRequest.field("cursor", "is not one that this list gave") from error


def _one_of(name: str, text: str, allowed: list[str]) -> str:
    if text not in allowed:
        raise InvalidRequest.field(name, f"should be one of {', '.join(allowed)}")
    return text


def _model(text: str) -> str:
    if not text.isprintable():
        raise InvalidRequest.field("model", "is no name of a model")
    return text


def _time(name: str, text: str) -> datetime:
    try:
        # The parser of Python also takes spaces, NUL and other digits.
        at = parse_datetime(text) if re.fullmatch(r"[0-9T:.Z+-]+", text) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise InvalidRequest.field(name, "should be an ISO 8601 time with a zone")
    return at

"""The API over jobs. Each view authenticates, reads the request, makes one call, and answers."""

import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts import caller
from apps.catalog import snapshot
from apps.core import clock, inputs, notify
from apps.core.errors import InvalidRequest, NotFound
from apps.core.schemas import problems
from apps.core.telemetry import logs, tracing
from apps.jobs import (
    cached,
    cancel,
    documents,
    feedback,
    listing,
    metrics,
    plans,
    reads,
    schemas,
    serializers,
    submit,
)
from apps.jobs.models import Job, JobEvent
from apps.jobs.states import Feedback

READ, WRITE = "jobs:read", "jobs:write"
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
# A comment line keeps proxies from closing a stream in which nothing happens.
_HEARTBEAT_S = 15.0


class Jobs(APIView):
    """Submit a job; list your jobs."""

    scopes = {"GET": READ, "POST": WRITE}

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Measures how long a submission takes to be answered, refusals included."""
        started = time.perf_counter()
        response = super().dispatch(request, *args, **kwargs)
        if request.method == "POST":
            metrics.accepted(response.status_code, time.perf_counter() - started)
        return response

    @extend_schema(
        summary="Submit a job",
        request=serializers.JobRequest,
        parameters=[OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER)],
        responses={
            202: schemas.Job,
            200: schemas.Job,
            **problems(400, 402, 403, 404, 410, 411, 413, 415, 422, 429, 503),
        },
        description="202: accepted. 200: answered from the cache, or a replay of a cached answer.",
    )
    def post(self, request: Request) -> HttpResponse:
        once = _once(request)
        asked = inputs.parse(serializers.JobRequest, inputs.body(request))
        traceparent = tracing.of_request(request.META.get("HTTP_TRACEPARENT"))
        job, replayed = submit.submit(caller.required(request), asked, once=once, traceparent=traceparent)
        return _accepted(job, replayed=replayed)

    @extend_schema(
        summary="List your jobs",
        operation_id="jobs_list",
        parameters=listing.PARAMETERS,
        responses={200: schemas.JobPage, **problems(422)},
    )
    def get(self, request: Request) -> Response:
        return Response(listing.page(caller.required(request), request.query_params))


class JobDetail(APIView):
    """One job, as it is now or, with `?wait=`, once it has ended."""

    scopes = {"GET": READ}

    @extend_schema(
        summary="Look at a job, or wait for it",
        parameters=[
            OpenApiParameter(
                "wait", int, description="Seconds to wait for the end; at most the server's limit."
            )
        ],
        responses={200: schemas.JobDetail, **problems(404, 422)},
    )
    def get(self, request: Request, job_id: uuid.UUID) -> Response:
        wait_s = inputs.wait_s(request.query_params)
        if wait_s:
            job = notify.once_ended(job_id, lambda: _job(request, job_id), wait_s=wait_s)
        else:
            job = _job(request, job_id)
        return Response(documents.full(job, job.past))


class JobCancel(APIView):
    """Ask for a job to be canceled. It ends at its next touch; work a provider already delivers is charged."""

    scopes = {"POST": WRITE}

    @extend_schema(
        summary="Cancel a job",
        request=None,
        responses={202: schemas.JobDetail, 200: schemas.JobDetail, **problems(404)},
    )
    def post(self, request: Request, job_id: uuid.UUID) -> Response:
        job = _job(request, job_id)
        cancel.ask(job.pk)
        job = _job(request, job_id)
        return Response(documents.full(job, job.past), status=200 if job.has_ended else 202)


class JobFeedback(APIView):
    """Say what you think of a result. What is wrong is not served again, a share paid for it comes back, and it is
    generated afresh."""

    scopes = {"POST": WRITE}

    @extend_schema(
        summary="Say what you think of a result",
        request=serializers.FeedbackRequest,
        responses={200: schemas.FeedbackAnswer, **problems(400, 404, 409, 411, 413, 415, 422)},
    )
    def post(self, request: Request, job_id: uuid.UUID) -> Response:
        asked = inputs.parse(serializers.FeedbackRequest, inputs.body(request))
        given = feedback.give(caller.required(request), _job(request, job_id), Feedback(asked.verdict))
        return Response(documents.feedback(given.refunded_usd, given.fresh, given.refusal))


class JobEvents(APIView):
    """A job's changes of status as JSON; with `Accept: text/event-stream` its news as they happen."""

    scopes = {"GET": READ}
    content_negotiation_class = inputs.AnyAccept

    @extend_schema(summary="Follow a job", responses={200: schemas.Events, **problems(404)})
    def get(self, request: Request, job_id: uuid.UUID) -> HttpResponse | StreamingHttpResponse:
        job = _job(request, job_id)
        if "text/event-stream" in request.headers.get("Accept", ""):
            stream = StreamingHttpResponse(_stream(request, job.pk), content_type="text/event-stream")
            stream["Cache-Control"] = "no-store"
            stream["X-Accel-Buffering"] = "no"
            return stream
        return Response(
            {"data": documents.events(job, list(JobEvent.objects.filter(job=job).order_by("id")))}
        )


class Estimates(APIView):
    """What a job would cost and how long it would take, as a quote that is kept for ten minutes. Nothing is held."""

    scopes = {"POST": READ}

    @extend_schema(
        summary="Ask what a job would cost",
        request=serializers.EstimateRequest,
        responses={200: schemas.Estimate, **problems(403, 404, 410, 422)},
    )
    def post(self, request: Request) -> Response:
        asked = inputs.parse(serializers.EstimateRequest, inputs.body(request))
        asker = caller.required(request)
        plan = plans.make(asker, asked)
        hit = None
        if asked.cache != "off":
            hit = cached.lookup(plan, policy=asked.cache, team_id=asker.team_id)
        kept = plans.keep(asker, asked, plan)
        return Response(documents.estimate(plan, kept, hit, cache=asked.cache))


class Models(APIView):
    """What can be asked for."""

    scopes = {"GET": READ}

    @extend_schema(summary="List the models", responses={200: schemas.Models, **problems()})
    def get(self, request: Request) -> Response:
        asker = caller.required(request)
        return Response({"data": [documents.model(each, asker) for each in snapshot.current().offered()]})


def idempotency_key(request: Request) -> str | None:
    """Raises InvalidRequest for one that is none."""
    # Not `request.headers`, which makes a dictionary of all of them first.
    key = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest.field("Idempotency-Key", "should be 1 to 255 printable ASCII characters")
    return key


def _once(request: Request) -> submit.Once | None:
    key = idempotency_key(request)
    if key is None:
        return None
    canonical = json.dumps(inputs.body(request), sort_keys=True, separators=(",", ":"))
    return submit.Once(key, hashlib.sha256(canonical.encode()).digest())


def _accepted(job: Job, *, replayed: bool) -> HttpResponse:
    body = job.accepted_body or documents.accepted(job)
    response = HttpResponse(body, status=200 if job.is_cached else 202, content_type="application/json")
    response["Location"] = f"/v1/jobs/{job.pk}"
    if replayed:
        response["Idempotent-Replayed"] = "true"
    return response


def _job(request: Request, job_id: uuid.UUID) -> Job:
    """The caller's job; anybody else's does not exist here."""
    logs.about(job_id=job_id)
    job = reads.of_user(job_id, caller.required(request).user_id)
    if job is None:
        raise NotFound("There is no such job.")
    return job


def _stream(request: Request, job_id: uuid.UUID) -> Iterator[str]:
    """Server-sent events: the job at each news, the last one when it has ended."""
    with notify.hub.place(job_id) as news:
        while True:
            if news:
                news.clear()
            job = _job(request, job_id)
            connection.close()
            data = json.dumps(documents.brief(job, documents.leading(job.past), clock.now()))
            yield f"event: {'end' if job.has_ended else 'job'}\ndata: {data}\n\n"
            if job.has_ended or news is None:
                return
            while not news.wait(_HEARTBEAT_S):
                yield ": still there\n\n"

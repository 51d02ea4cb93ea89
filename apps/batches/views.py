"""The API over batches. Each view authenticates, reads the request, makes one call, and answers."""

import uuid
from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts import caller
from apps.accounts.models import ApiKey
from apps.batches import cancel, documents, intake, results, roll_up, schemas, serializers, upload
from apps.batches.models import Batch
from apps.core import inputs, notify, parsers
from apps.core.errors import InvalidRequest, MalformedRequest, NotFound
from apps.core.schemas import problems
from apps.core.telemetry import tracing
from apps.jobs.views import idempotency_key

READ, WRITE = ApiKey.Scope.JOBS_READ.value, ApiKey.Scope.JOBS_WRITE.value
_DEFAULT_SIZE, _MAX_SIZE = 50, 200
_FLAGS = {"true": True, "false": False}


class Batches(APIView):
    """Submit up to 50,000 jobs at once; list your batches."""

    scopes = {"GET": READ, "POST": WRITE}

    @extend_schema(
        summary="Submit a batch",
        request={
            "application/jsonl": OpenApiTypes.STR,
            "application/x-ndjson": OpenApiTypes.STR,
            "application/json": serializers.Items,
            "multipart/form-data": serializers.Form,
        },
        parameters=[
            OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER),
            OpenApiParameter("callback_url", str, description="Told of the end of the batch"),
            OpenApiParameter("metadata", str, description="A JSON object"),
            OpenApiParameter("partial", bool, description="Run the good lines, as many as the budget covers"),
            OpenApiParameter("completion_window", str, description="Hours, 1h to 168h; `24h` by default"),
        ],
        responses={202: schemas.BatchDetail, **problems(400, 402, 411, 413, 415, 422, 429, 503)},
        description="Each line is the body of POST /v1/jobs with a `custom_id`. All or nothing, unless `partial`.",
    )
    def post(self, request: Request) -> HttpResponse:
        key = idempotency_key(request)
        traceparent = tracing.of_request(request.headers.get("traceparent"))
        with upload.received(request._request) as received:
            options = _options({**request.query_params.dict(), **received.fields})
            batch, replayed = intake.accept(
                caller.required(request), received, options, key=key, traceparent=traceparent
            )
        return _accepted(batch, replayed=replayed)

    @extend_schema(
        summary="List your batches",
        operation_id="batches_list",
        parameters=[
            OpenApiParameter("cursor", str, description="`next` of the page before"),
            OpenApiParameter("page_size", int, description=f"1 to {_MAX_SIZE}, {_DEFAULT_SIZE} by default"),
        ],
        responses={200: schemas.BatchPage, **problems(422)},
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        inputs.only(query, ("cursor", "page_size"))
        size = inputs.size(query.get("page_size"), default=_DEFAULT_SIZE, most=_MAX_SIZE)
        found = Batch.objects.filter(user_id=caller.required(request).user_id)
        if "cursor" in query:
            found = found.filter(
                pk__lt=inputs.row_id("cursor", query["cursor"], "is not one that this list gave")
            )
        page = list(found.order_by("-id")[: size + 1])
        following = str(page[size - 1].pk) if len(page) > size else None
        return Response({"data": [documents.full(batch) for batch in page[:size]], "next": following})


class BatchDetail(APIView):
    """One batch, as it is now or, with `?wait=`, once it has ended."""

    scopes = {"GET": READ}

    @extend_schema(
        summary="Look at a batch, or wait for it",
        parameters=[
            OpenApiParameter(
                "wait", int, description="Seconds to wait for the end; at most the server's limit."
            )
        ],
        responses={200: schemas.BatchDetail, **problems(404, 422)},
    )
    def get(self, request: Request, batch_id: uuid.UUID) -> Response:
        wait_s = inputs.wait_s(request.query_params)
        if wait_s:
            batch = notify.once_ended(batch_id, lambda: _current(request, batch_id), wait_s=wait_s)
        else:
            batch = _current(request, batch_id)
        return Response(documents.detail(batch, intake.first_refusals(batch)))


class BatchResults(APIView):
    """What came of the items so far, as JSON lines in the order that they were sent in."""

    scopes = {"GET": READ}
    content_negotiation_class = inputs.AnyAccept

    @extend_schema(
        summary="Read a batch's results",
        responses={(200, "application/jsonl"): schemas.ItemResult, **problems(404)},
    )
    def get(self, request: Request, batch_id: uuid.UUID) -> StreamingHttpResponse:
        batch = _batch(request, batch_id)
        stream = StreamingHttpResponse(results.lines(batch), content_type="application/jsonl")
        stream["Cache-Control"] = "no-store"
        return stream


class BatchCancel(APIView):
    """Ask for a batch to be canceled. What has not begun ends; work a provider already delivers is charged."""

    scopes = {"POST": WRITE}

    @extend_schema(
        summary="Cancel a batch",
        request=None,
        responses={202: schemas.BatchDetail, 200: schemas.BatchDetail, **problems(404)},
    )
    def post(self, request: Request, batch_id: uuid.UUID) -> Response:
        batch = _batch(request, batch_id)
        cancel.ask(batch.pk)
        batch = _current(request, batch_id)
        document = documents.detail(batch, intake.first_refusals(batch))
        return Response(document, status=200 if batch.has_ended else 202)


def _options(given: Mapping[str, Any]) -> serializers.Options:
    """Query parameters and fields of a form are text: what is not is read from it."""
    values = dict(given)
    if "partial" in values:
        values["partial"] = _FLAGS.get(values["partial"], values["partial"])
    if "metadata" in values:
        try:
            values["metadata"] = parsers.loads(values["metadata"].encode())
        except (MalformedRequest, UnicodeEncodeError) as error:
            raise InvalidRequest.field("metadata", "should be a JSON object") from error
    return inputs.parse(serializers.Options, values)


def _accepted(batch: Batch, *, replayed: bool) -> HttpResponse:
    body = batch.accepted_body or documents.accepted(batch, intake.first_refusals(batch))
    response = HttpResponse(body, status=202, content_type="application/json")
    response["Location"] = f"/v1/batches/{batch.pk}"
    if replayed:
        response["Idempotent-Replayed"] = "true"
    return response


def _batch(request: Request, batch_id: uuid.UUID) -> Batch:
    """The caller's batch; anybody else's does not exist here."""
    batch = Batch.objects.filter(pk=batch_id, user_id=caller.required(request).user_id).first()
    if batch is None:
        raise NotFound("There is no such batch.")
    return batch


def _current(request: Request, batch_id: uuid.UUID) -> Batch:
    """The same with counters up to date: what ended in the last second counts."""
    batch = _batch(request, batch_id)
    if batch.has_ended:
        return batch
    roll_up.of(batch.pk)
    return _batch(request, batch_id)

"""What a request says, read strictly: its body and its query parameters. Whatever is wrong is named by its field."""

import re
import uuid
from collections.abc import Collection, Mapping
from datetime import date, datetime
from typing import Any, TypeVar

from django.conf import settings
from django.utils.dateparse import parse_datetime
from pydantic import BaseModel, ConfigDict, ValidationError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from apps.core.errors import InvalidRequest, LengthRequired
from apps.core.parsers import field_path

# A body of a megabyte can hold a hundred thousand wrong fields; nobody reads more errors than this.
MAX_ERRORS = 50

Body = TypeVar("Body", bound="Strict")


class Strict(BaseModel):
    """A body without unknown fields and without silent conversion ("512" and true are not numbers)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class JsonAccept(DefaultContentNegotiation):
    """The API answers JSON. `Accept` is weighed only where it says something else than what clients of JSON say."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        accept, query = (request.META.get(name, "") for name in ("HTTP_ACCEPT", "QUERY_STRING"))
        if accept in ("", "*/*", "application/json") and not query:
            return renderers[0], renderers[0].media_type
        weighed: tuple[BaseRenderer, str] = super().select_renderer(request, renderers, format_suffix)
        return weighed


class AnyAccept(DefaultContentNegotiation):
    """For a view that also answers something else than JSON: `Accept` is its own to read, not DRF's to refuse."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


def body(request: Request) -> Any:
    """What was sent. Django reads no chunked body: without this it would look empty."""
    if "Transfer-Encoding" in request.headers:
        raise LengthRequired("Send Content-Length instead of Transfer-Encoding.")
    return request.data


def parse(shape: type[Body], data: Any) -> Body:
    """`data` as `shape`. Raises InvalidRequest that names every bad field (of the first `MAX_ERRORS`)."""
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        found = [
            {"field": field_path(item["loc"]), "message": item["msg"], "code": item["type"]}
            for item in error.errors(include_url=False, include_context=False, include_input=False)[
                :MAX_ERRORS
            ]
        ]
        summary = "; ".join(f"{item['field']}: {item['message']}" for item in found[:3])
        raise InvalidRequest(summary, errors=found) from error


def only(query: Mapping[str, str], names: Collection[str]) -> None:
    """Raises InvalidRequest for a parameter that is none of `names`."""
    for name in query:
        if name not in names:
            raise InvalidRequest.field(name, "is not a parameter here", "unknown")


def size(text: str | None, *, default: int, most: int) -> int:
    """`page_size`."""
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= most:
        raise InvalidRequest.field("page_size", f"should be a whole number from 1 to {most}")
    return int(text)


def wait_s(query: Mapping[str, str]) -> float:
    """`wait`, seconds, as far as the server's limit goes; 0 where it is not asked for."""
    text = query.get("wait", "0")
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise InvalidRequest.field("wait", "should be a whole number of seconds")
    return min(float(text), settings.WAIT_MAX_S)


def one_of(name: str, text: str, allowed: Collection[str]) -> str:
    if text not in allowed:
        raise InvalidRequest.field(name, f"should be one of {', '.join(allowed)}")
    return text


def row_id(name: str, text: str, message: str = "should be an id") -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise InvalidRequest.field(name, message) from error


def time(name: str, text: str) -> datetime:
    try:
        # The parser of Python also takes spaces, NUL and other digits.
        at = parse_datetime(text) if re.fullmatch(r"[0-9T:.Z+-]+", text) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise InvalidRequest.field(name, "should be an ISO 8601 time with a zone")
    return at


def day(name: str, text: str) -> date:
    try:
        found = date.fromisoformat(text) if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else None
    except ValueError:
        found = None
    if found is None:
        raise InvalidRequest.field(name, "should be a day, YYYY-MM-DD")
    return found

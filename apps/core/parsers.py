"""One strict JSON parser for every request body: what Postgres or a client could misread is refused here."""

import json
import math
import re
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.core.exceptions import RequestDataTooBig
from rest_framework.parsers import BaseParser

from apps.core.errors import InvalidRequest, MalformedRequest, RequestTooLarge, UnsupportedMediaType

MAX_DEPTH = 32
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class StrictJSONParser(BaseParser):
    """UTF-8 JSON (RFC 8259) without duplicate keys, NaN, infinities, NUL, lone surrogates or deep nesting."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        request = (parser_context or {})["request"]
        if request.META.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
            raise UnsupportedMediaType("Compressed request bodies are not accepted.")
        charset = request.content_type and re.search(
            r"charset=([^;\s]+)", request.META.get("CONTENT_TYPE", "")
        )
        if charset and charset.group(1).strip('"').lower() not in ("utf-8", "utf8"):
            raise UnsupportedMediaType("JSON is UTF-8 (RFC 8259, section 8.1).")
        try:
            raw = request.body
        except RequestDataTooBig as error:
            raise RequestTooLarge("The body is larger than this API accepts.") from error
        return loads(raw)


def loads(raw: bytes) -> Any:
    """The value of a JSON text. Raises MalformedRequest, or InvalidRequest naming the field."""
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_object_without_duplicates, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise MalformedRequest("The body is not UTF-8.") from error
    except RecursionError as error:
        raise MalformedRequest("The body is nested too deeply.") from error
    except ValueError as error:
        raise MalformedRequest(f"The body is not JSON: {error}") from error
    _refuse_unstorable(value, path="", depth=0)
    return value


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest.field(twice[:100], "appears twice in one object", "duplicate_key")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _refuse_unstorable(value: Any, *, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise MalformedRequest("The body is nested too deeply.")
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            raise InvalidRequest.field(
                path or "body", "contains NUL or half of a surrogate pair", "bad_character"
            )
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequest.field(path or "body", "is too large a number", "out_of_range")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_unstorable(key, path=path or "body", depth=depth)
            _refuse_unstorable(item, path=f"{path}.{key}" if path else key, depth=depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_unstorable(item, path=f"{path}[{index}]", depth=depth + 1)

"""One strict JSON parser for every request body: what Postgres or a client could misread is refused here."""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import IO, Any, NoReturn

from django.core.exceptions import RequestDataTooBig
from rest_framework.parsers import BaseParser

from apps.core.errors import InvalidRequest, MalformedRequest, RequestTooLarge, UnsupportedMediaType

MAX_DEPTH = 32
# What every reader of JSON can hold (RFC 8259, section 6): an IEEE 754 double, also for whole numbers.
_MAX_NUMBER = sys.float_info.max
_MAX_SHOWN = 100
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
    _refuse_unstorable(value)
    return value


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise InvalidRequest.field(_shown(twice), "appears twice in one object", "duplicate_key")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _refuse_unstorable(value: Any, path: tuple[str | int, ...] = ()) -> None:
    """`path` becomes text only for an error: a long name over many items must not be copied for each."""
    if len(path) > MAX_DEPTH:
        raise MalformedRequest("The body is nested too deeply.")
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            raise _bad(path, "contains NUL or half of a surrogate pair", "bad_character")
    elif isinstance(value, int | float):
        if not -_MAX_NUMBER <= value <= _MAX_NUMBER:
            raise _bad(path, "is too large a number", "out_of_range")
    elif isinstance(value, dict):
        for key, item in value.items():
            if _UNSTORABLE.search(key):
                raise _bad(path, "contains a name with NUL or half of a surrogate pair", "bad_character")
            _refuse_unstorable(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_unstorable(item, (*path, index))


def _bad(path: tuple[str | int, ...], message: str, code: str) -> InvalidRequest:
    return InvalidRequest.field(field_path(path), message, code)


def field_path(location: Iterable[str | int]) -> str:
    """How errors name a field: ("params", "width") → "params.width", ("fallback_models", 0) → "fallback_models[0]"."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{_shown(part)}" if path else _shown(part)
    return path or "body"


def _shown(name: str) -> str:
    """A name as a client sent it, no longer than any of ours."""
    return name[:_MAX_SHOWN]

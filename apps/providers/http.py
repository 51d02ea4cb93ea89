"""One HTTP exchange with a provider: bounded in time and size, never redirected, never retried.

A retry here could buy twice; it is decided, and recorded, by the caller.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Literal

import httpx
from django.conf import settings
from opentelemetry.trace import SpanKind

from apps.core.telemetry import tracing
from apps.providers import asked
from apps.providers.errors import ErrorKind, ProviderError

MAX_BYTES = 1_000_000
# Of an answer that holds the result itself: a picture as base64 in JSON, or minutes of sound.
MAX_RESULT_BYTES = 64_000_000

# A call that is made at all gets a chance.
_LEAST_S = 1.0
# Bodies are counted as they arrive; a compressed one could grow past the bound when unpacked.
_HEADERS = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "genplatform"}
_within_s: ContextVar[float] = ContextVar("within_s", default=math.inf)
_begins_by: ContextVar[float] = ContextVar("begins_by", default=math.inf)

Method = Literal["GET", "POST", "PUT", "DELETE"]


@dataclass(frozen=True)
class Answer:
    """`headers` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """Raises ProviderError (malformed) if the body is not a JSON object."""
        try:
            value = json.loads(self.body.decode())
        except (ValueError, RecursionError) as error:
            raise ProviderError(ErrorKind.MALFORMED, f"HTTP {self.status} without JSON") from error
        if not isinstance(value, dict):
            raise ProviderError(ErrorKind.MALFORMED, f"HTTP {self.status}: not a JSON object")
        return value


def exchange(
    method: Method,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes | None = None,
    max_bytes: int = MAX_BYTES,
    total_s: float | None = None,
) -> Answer:
    """Any HTTP status is an answer. `total_s`: for a call that waits for the result, how long it may take in all.

    Raises ProviderError: connect (nothing was sent), ambiguous (the provider may have read it) or malformed (more
    than `max_bytes`).
    """
    wait_s = min(total_s or settings.PROVIDER_READ_TIMEOUT_S, _within_s.get())
    body = bytearray()
    status, told = _stream(
        method, url, headers=headers, content=content, wait_s=wait_s, max_bytes=max_bytes, take=body.extend
    )
    return Answer(status, told, bytes(body))


def ask(url: str, *, headers: Mapping[str, str]) -> Callable[[], Answer]:
    """Sends a GET. What is returned reads the answer, and is to be called, once: meanwhile others can be asked. Both
    raise as `exchange`."""
    wait_s = min(settings.PROVIDER_READ_TIMEOUT_S, _within_s.get())
    try:
        return partial(_answer, _send("GET", url, headers=headers, content=None, wait_s=wait_s))
    except asked.FAILED as error:
        raise _ours(error, MAX_BYTES) from error


def download(
    url: str, *, headers: Mapping[str, str], into: BinaryIO, max_bytes: int, total_s: float
) -> Answer:
    """A GET whose body, which may be large, is written `into` a file; that of the answer is empty. As `exchange`."""
    status, told = _stream(
        "GET", url, headers=headers, content=None, wait_s=total_s, max_bytes=max_bytes, take=into.write
    )
    return Answer(status, told, b"")


@contextmanager
def begun_within(seconds: float) -> Iterator[None]:
    """No exchange inside begins later: who was stopped meanwhile may have lost what he was to pay for."""
    token = _begins_by.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _begins_by.reset(token)


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """No exchange inside takes longer: what a job has left is a bound of every call for it."""
    token = _within_s.set(max(seconds, _LEAST_S) if seconds is not None else math.inf)
    try:
        yield
    finally:
        _within_s.reset(token)


def form(
    fields: Mapping[str, str], files: Mapping[str, tuple[str, bytes]] | None = None
) -> tuple[str, bytes]:
    """The content type and the body of a multipart form. `files`: field → the file's name and content."""
    parts: dict[str, tuple[str | None, str | bytes]] = {name: (None, text) for name, text in fields.items()}
    request = httpx.Request("POST", "http://form", files={**parts, **(files or {})})
    return request.headers["content-type"], request.read()


def result(url: str, *, headers: Mapping[str, str], content: bytes) -> Answer:
    """A POST that is answered with what was generated: it may take as long as that, and be as large. As `exchange`."""
    return exchange(
        "POST",
        url,
        headers=headers,
        content=content,
        max_bytes=MAX_RESULT_BYTES,
        total_s=settings.PROVIDER_RESULT_TIMEOUT_S,
    )


def _stream(
    method: Method,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes | None,
    wait_s: float,
    max_bytes: int,
    take: Callable[[bytes], object],
) -> tuple[int, Mapping[str, str]]:
    with tracing.span(method, kind=SpanKind.CLIENT):
        try:
            sent = _send(method, url, headers=headers, content=content, wait_s=wait_s)
            return sent.answer(take=take, max_bytes=max_bytes)
        except asked.FAILED as error:
            raise _ours(error, max_bytes) from error


def _send(
    method: Method, url: str, *, headers: Mapping[str, str], content: bytes | None, wait_s: float
) -> asked.Sent:
    if time.monotonic() > _begins_by.get():
        raise ProviderError(ErrorKind.CONNECT, "too late to begin")
    return asked.send(
        method,
        url,
        headers={**_HEADERS, **tracing.here(), **headers},
        content=content,
        connect_s=min(settings.PROVIDER_CONNECT_TIMEOUT_S, wait_s),
        wait_s=wait_s,
    )


def _answer(sent: asked.Sent) -> Answer:
    body = bytearray()
    try:
        status, told = sent.answer(take=body.extend, max_bytes=MAX_BYTES)
    except asked.FAILED as error:
        raise _ours(error, MAX_BYTES) from error
    return Answer(status, told, bytes(body))


def _ours(error: Exception, max_bytes: int) -> ProviderError:
    """Says of what went wrong whether the provider may have read what was sent."""
    if isinstance(error, asked.Unsent):
        return ProviderError(ErrorKind.CONNECT, str(error))
    if isinstance(error, asked.TooLarge):
        return ProviderError(ErrorKind.MALFORMED, f"more than {max_bytes} bytes")
    return ProviderError(ErrorKind.AMBIGUOUS, type(error).__name__)

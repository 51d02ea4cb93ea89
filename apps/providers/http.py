"""One HTTP exchange with a provider: bounded in time and size, never redirected, never retried.

A retry here could buy twice; it is decided, and recorded, by the caller.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO, Literal

import httpx
from django.conf import settings

from apps.providers import asked
from apps.providers.errors import ErrorKind, ProviderError

MAX_BYTES = 1_000_000
# Of an answer that holds the result itself: a picture as base64 in JSON, or minutes of sound.
MAX_RESULT_BYTES = 64_000_000

# A call that is made at all gets a chance.
_LEAST_S = 1.0
_HEADERS = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "genplatform"}
_within_s: ContextVar[float] = ContextVar("within_s", default=math.inf)
_begins_by: ContextVar[float] = ContextVar("begins_by", default=math.inf)

# Raised before the first byte of the request can have left: nothing was bought.
UNSENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.ProxyError,
)


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
            value = json.loads(self.body)
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
    if method == "GET":
        return _ask(url, headers=headers, max_bytes=max_bytes, wait_s=wait_s)
    body = bytearray()
    status, headers_told = _stream(
        method, url, headers=headers, content=content, wait_s=wait_s, max_bytes=max_bytes, take=body.extend
    )
    return Answer(status, headers_told, bytes(body))


def download(
    url: str, *, headers: Mapping[str, str], into: BinaryIO, max_bytes: int, total_s: float
) -> Answer:
    """A GET whose body, which may be large, is written `into` a file; that of the answer is empty. As `exchange`."""
    status, headers_told = _stream(
        "GET", url, headers=headers, content=None, wait_s=total_s, max_bytes=max_bytes, take=into.write
    )
    return Answer(status, headers_told, b"")


@contextmanager
def begun_within(seconds: float) -> Iterator[None]:
    """No exchange inside begins later: who was stopped meanwhile may have lost what he was to pay for."""
    token = _begins_by.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _begins_by.reset(token)


def _ask(url: str, *, headers: Mapping[str, str], max_bytes: int, wait_s: float) -> Answer:
    try:
        reply = asked.get(
            url,
            headers={**_HEADERS, **headers},
            max_bytes=max_bytes,
            connect_s=min(settings.PROVIDER_CONNECT_TIMEOUT_S, wait_s),
            wait_s=wait_s,
            ends_at=time.monotonic() + wait_s,
        )
    except asked.Unsent as error:
        raise ProviderError(ErrorKind.CONNECT, str(error)) from error
    except asked.LOST as error:
        raise ProviderError(ErrorKind.AMBIGUOUS, type(error).__name__) from error
    if len(reply.body) > max_bytes:
        raise ProviderError(ErrorKind.MALFORMED, f"more than {max_bytes} bytes")
    return Answer(reply.status, reply.headers, reply.body)


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
) -> tuple[int, httpx.Headers]:
    timeout = client().timeout
    timeout = httpx.Timeout(
        connect=min(timeout.connect or wait_s, wait_s),
        read=wait_s,
        write=min(timeout.write or wait_s, wait_s),
        pool=min(timeout.pool or wait_s, wait_s),
    )
    if time.monotonic() > _begins_by.get():
        raise ProviderError(ErrorKind.CONNECT, "too late to begin")
    ends_at = time.monotonic() + wait_s
    try:
        with client().stream(method, url, headers=headers, content=content, timeout=timeout) as response:
            _read(response, max_bytes=max_bytes, ends_at=ends_at, take=take)
            return response.status_code, response.headers
    except (*UNSENT, httpx.InvalidURL) as error:
        raise ProviderError(ErrorKind.CONNECT, type(error).__name__) from error
    except httpx.TransportError as error:
        raise ProviderError(ErrorKind.AMBIGUOUS, type(error).__name__) from error


def _read(
    response: httpx.Response, *, max_bytes: int, ends_at: float, take: Callable[[bytes], object]
) -> None:
    # httpx bounds the wait for each piece; a provider that drips must end as well.
    read = 0
    for piece in response.iter_raw():
        take(piece)
        read += len(piece)
        if read > max_bytes:
            raise ProviderError(ErrorKind.MALFORMED, f"more than {max_bytes} bytes")
        if time.monotonic() > ends_at:
            raise ProviderError(ErrorKind.AMBIGUOUS, "the answer took too long to read")


@cache
def client() -> httpx.Client:
    """One per process: connections are kept and shared by its threads."""
    read_s = settings.PROVIDER_READ_TIMEOUT_S
    connect_s = settings.PROVIDER_CONNECT_TIMEOUT_S
    return httpx.Client(
        timeout=httpx.Timeout(connect=connect_s, read=read_s, write=read_s, pool=connect_s),
        limits=httpx.Limits(max_connections=200, max_keepalive_connections=100, keepalive_expiry=30),
        follow_redirects=False,
        # No proxy or credentials from the environment.
        trust_env=False,
        # Bodies are counted as they arrive; a compressed one could grow past the bound when unpacked.
        headers=_HEADERS,
    )


# Connections can't be shared with a forked child.
os.register_at_fork(after_in_child=client.cache_clear)

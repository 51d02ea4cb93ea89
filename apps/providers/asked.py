"""Connections to providers: kept, and cheap enough for hundreds of exchanges a second.

The standard library's client takes a quarter of the CPU time of httpx for the same exchange. It sends what it is given
once: a connection that turns out to be dead after the first byte was sent is the caller's doubt (`LOST`), never a
reason to send again. One that fails before is `Unsent`.
"""

import atexit
import http.client
import os
import select
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

_KEPT_S = 30.0
_KEPT = 100
_CHUNK = 65_536
_WITH_BODY = frozenset({"POST", "PUT"})

# What goes wrong once the request may have been read; before, it is an `Unsent`.
LOST = (OSError, http.client.HTTPException)


class Unsent(Exception):
    """No connection was made, or there is no such request. Names the error's class, which tells no secrets."""


class TooLarge(Exception):
    """The answer's body is longer than was allowed."""


class _Kept(NamedTuple):
    connection: http.client.HTTPConnection
    since: float


class _Target(NamedTuple):
    secure: bool
    host: str
    port: int | None
    path: str

    @property
    def origin(self) -> tuple[bool, str, int | None]:
        return self[:3]


_idle: dict[tuple[bool, str, int | None], list[_Kept]] = defaultdict(list)


def exchange(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes | None = None,
    take: Callable[[bytes], object],
    max_bytes: int,
    connect_s: float,
    wait_s: float,
    ends_at: float,
) -> tuple[int, dict[str, str]]:
    """The status, any of which is an answer, and the headers by lower-case name; `take` is given the body in pieces.

    `wait_s`: for each piece; `ends_at`: on the monotonic clock, for the whole. Raises Unsent, TooLarge, TimeoutError at
    `ends_at`, or another one of LOST.
    """
    where = _target(url)
    connection = _take(where, connect_s)
    whole = False
    try:
        connection.sock.settimeout(wait_s)
        _send(connection, method, where.path, headers, content)
        with connection.getresponse() as response:
            if response.status < http.client.OK:
                # A word before the answer (103 Early Hints). The answer itself is not to be had from this client.
                raise http.client.BadStatusLine(str(response.status))
            _read(response, max_bytes, ends_at, take)
            whole = (response.isclosed() or response.length == 0) and not response.will_close
        return response.status, {name.lower(): value for name, value in response.headers.items()}
    finally:
        if whole:
            _keep(where, connection)
        else:
            connection.close()


def forget() -> None:
    """Closes what is kept: at the end, and in a forked child, for connections can't be shared with it."""
    for kept in _idle.values():
        while kept:
            kept.pop().connection.close()


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: Mapping[str, str],
    content: bytes | None,
) -> None:
    """Raises Unsent for what can't be written as a request: nothing leaves before its headers are complete."""
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if content is not None or method in _WITH_BODY:
            connection.putheader("content-length", str(len(content or b"")))
    except (ValueError, http.client.HTTPException) as error:
        raise Unsent(type(error).__name__) from error
    # Who refuses early may close before all is read: the answer is there all the same.
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.endheaders()
        for start in range(0, len(content or b""), _CHUNK):
            connection.send((content or b"")[start : start + _CHUNK])


def _read(
    response: http.client.HTTPResponse, max_bytes: int, ends_at: float, take: Callable[[bytes], object]
) -> None:
    read = 0
    while piece := response.read1(_CHUNK):
        take(piece)
        read += len(piece)
        if read > max_bytes:
            raise TooLarge
        if time.monotonic() > ends_at:
            raise TimeoutError("the answer took too long to read")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)


def _take(where: _Target, connect_s: float) -> http.client.HTTPConnection:
    """One that is kept and still good, or a new one. Raises Unsent."""
    kept = _idle[where.origin]
    with suppress(IndexError):
        while True:
            # The latest used: those too many grow old and are closed. Threads may pop at once.
            one = kept.pop()
            if time.monotonic() - one.since < _KEPT_S and _is_quiet(one.connection):
                return one.connection
            one.connection.close()
    made = _made(where, connect_s)
    # Never by itself, in the middle of a request.
    made.auto_open = 0
    try:
        made.connect()
    except (OSError, ValueError, http.client.HTTPException) as error:
        made.close()
        raise Unsent(type(error).__name__) from error
    return made


def _made(where: _Target, connect_s: float) -> http.client.HTTPConnection:
    if where.secure:
        return http.client.HTTPSConnection(where.host, where.port, timeout=connect_s, context=_trust())
    return http.client.HTTPConnection(where.host, where.port, timeout=connect_s)


def _keep(where: _Target, connection: http.client.HTTPConnection) -> None:
    kept = _idle[where.origin]
    if len(kept) < _KEPT:
        kept.append(_Kept(connection, time.monotonic()))
    else:
        connection.close()


def _is_quiet(connection: http.client.HTTPConnection) -> bool:
    """What has something to say before it was asked anything has been closed by the other side."""
    waiting = select.poll()
    waiting.register(connection.sock, select.POLLIN)
    return not waiting.poll(0)


def _target(url: str) -> _Target:
    """Raises Unsent."""
    # Of all the questions to a provider only the path differs.
    slash = url.find("/", url.find("://") + 3)
    if slash < 0:
        slash = len(url)
    return _Target(*_origin(url[:slash]), url[slash:] or "/")


@lru_cache(maxsize=64)
def _origin(url: str) -> tuple[bool, str, int | None]:
    """Raises Unsent."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Unsent(type(error).__name__) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise Unsent("InvalidURL")
    return parts.scheme == "https", parts.hostname, port


@cache
def _trust() -> ssl.SSLContext:
    """httpx's certificates; nothing from the environment."""
    return httpx.create_ssl_context(trust_env=False)


os.register_at_fork(after_in_child=forget)
atexit.register(forget)

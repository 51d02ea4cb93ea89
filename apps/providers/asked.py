"""Connections for asking providers what became of their work: kept, and cheap enough for hundreds of questions a
second.

The standard library's client takes a quarter of the CPU time of httpx for the same exchange. Orders go by httpx; what
is asked here may be asked again, so a connection that turns out to be dead costs nothing but the next poll.
"""

import atexit
import http.client
import os
import select
import ssl
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

_KEPT_S = 30.0
_KEPT = 100

# What goes wrong once the question may have been read; before, it is an `Unsent`.
LOST = (OSError, http.client.HTTPException)


class Unsent(Exception):
    """No connection was made. Names the error's class, which tells no secrets."""


class Reply(NamedTuple):
    """`headers` by lower-case name. `body` holds at most one byte more than was allowed."""

    status: int
    headers: dict[str, str]
    body: bytes


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


def get(
    url: str, *, headers: Mapping[str, str], max_bytes: int, connect_s: float, wait_s: float, ends_at: float
) -> Reply:
    """Any status is a reply. `wait_s`: for each piece; `ends_at`: on the monotonic clock, for the whole.

    Raises Unsent, TimeoutError at `ends_at`, or one of LOST.
    """
    where = _target(url)
    connection = _take(where, connect_s)
    whole = False
    try:
        connection.sock.settimeout(wait_s)
        connection.request("GET", where.path, headers=dict(headers))
        response = connection.getresponse()
        with response:
            body = _read(response, max_bytes, ends_at)
            whole = (response.isclosed() or response.length == 0) and not response.will_close
        told = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status, told, body)
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


def _read(response: http.client.HTTPResponse, max_bytes: int, ends_at: float) -> bytes:
    body = bytearray()
    while piece := response.read1(max_bytes + 1 - len(body)):
        body += piece
        if len(body) > max_bytes:
            return bytes(body)
        if time.monotonic() > ends_at:
            raise TimeoutError("the answer took too long to read")
    if response.length:
        raise http.client.IncompleteRead(bytes(body), response.length)
    return bytes(body)


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
    """What has something to say before it was asked has been closed by the other side."""
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
    """The same certificates as for orders; nothing from the environment."""
    return httpx.create_ssl_context(trust_env=False)


os.register_at_fork(after_in_child=forget)
atexit.register(forget)

"""Connections to providers: kept, and cheap enough for hundreds of exchanges a second.

Of the CPU time of httpx the standard library's client takes a quarter, and reading answers by `wire` less still. What
an exchange is given is sent once: a connection that turns out to be dead after the first byte was sent is the caller's
doubt (`LOST`), never a reason to send again. One that fails before is `Unsent`.
"""

import atexit
import os
import select
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from apps.providers import wire
from apps.providers.wire import TooLarge

__all__ = ["FAILED", "LOST", "Sent", "TooLarge", "Unsent", "forget", "send"]

_KEPT_S = 30.0
_KEPT = 100
# For what has arrived already.
_READ_S = 1.0
_PIECE = 65_536
_PORTS = {True: 443, False: 80}

# What goes wrong once the request may have been read; before, it is an `Unsent`.
LOST = (OSError, wire.Garbled)


class Unsent(Exception):
    """No connection was made, or there is no such request. Names the error's class, which tells no secrets."""


FAILED = (Unsent, TooLarge, *LOST)


class _Kept(NamedTuple):
    connection: socket.socket
    since: float


class _Origin(NamedTuple):
    secure: bool
    host: str
    port: int
    # As the request names it.
    named: str


_idle: dict[_Origin, list[_Kept]] = defaultdict(list)


class Sent:
    """A request that was sent. Its answer is to be read, once."""

    __slots__ = ("_connection", "_origin", "_until")

    def __init__(self, origin: _Origin, connection: socket.socket, *, until: float) -> None:
        self._origin, self._connection, self._until = origin, connection, until

    def answer(self, *, take: Callable[[bytes], object], max_bytes: int) -> tuple[int, Mapping[str, str]]:
        """The status, any of which is an answer, and the headers by lower-case name; `take` is given the body in
        pieces. Raises TooLarge, TimeoutError when the time is up, or another one of LOST."""
        kept = False
        try:
            # What came while others were read is read, however late.
            ends_at = max(self._until, time.monotonic() + _READ_S)
            read = wire.answer(self._connection, take=take, max_bytes=max_bytes, ends_at=ends_at)
            kept = read.kept
            return read.status, read.headers
        finally:
            if kept:
                _keep(self._origin, self._connection)
            else:
                self._connection.close()


def send(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes | None = None,
    connect_s: float,
    wait_s: float,
) -> Sent:
    """`wait_s`: for the whole, and so for each piece of the answer. Raises Unsent, or one of LOST."""
    until = time.monotonic() + wait_s
    origin, path = _target(url)
    try:
        message = wire.request(method, path, host=origin.named, headers=headers, content=content)
    except ValueError as error:
        raise Unsent(type(error).__name__) from error
    connection = _take(origin, connect_s)
    try:
        if connection.gettimeout() != wait_s:
            connection.settimeout(wait_s)
        _send(connection, message)
    except BaseException:
        connection.close()
        raise
    return Sent(origin, connection, until=until)


def forget() -> None:
    """Closes what is kept: at the end, and in a forked child, for connections can't be shared with it."""
    for kept in _idle.values():
        while kept:
            kept.pop().connection.close()


def _send(connection: socket.socket, message: bytes) -> None:
    # Who refuses early may close before all is read: the answer is there all the same.
    with suppress(BrokenPipeError, ConnectionResetError):
        for start in range(0, len(message), _PIECE):
            connection.sendall(message[start : start + _PIECE])


def _take(origin: _Origin, connect_s: float) -> socket.socket:
    """One that is kept and still good, or a new one. Raises Unsent."""
    kept = _idle[origin]
    with suppress(IndexError):
        while True:
            # The latest used: those too many grow old and are closed. Threads may pop at once.
            one = kept.pop()
            if time.monotonic() - one.since < _KEPT_S and _is_quiet(one.connection):
                return one.connection
            one.connection.close()
    try:
        return _made(origin, connect_s)
    except (OSError, ValueError) as error:
        raise Unsent(type(error).__name__) from error


def _made(origin: _Origin, connect_s: float) -> socket.socket:
    """Raises OSError, or ValueError for a name that is none."""
    plain = socket.create_connection((origin.host, origin.port), connect_s)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _trust().wrap_socket(plain, server_hostname=origin.host) if origin.secure else plain
    except BaseException:
        plain.close()
        raise


def _keep(origin: _Origin, connection: socket.socket) -> None:
    kept = _idle[origin]
    if len(kept) < _KEPT:
        kept.append(_Kept(connection, time.monotonic()))
    else:
        connection.close()


def _is_quiet(connection: socket.socket) -> bool:
    """What has something to say before it was asked anything has been closed by the other side."""
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    return not waiting.poll(0) and not (isinstance(connection, ssl.SSLSocket) and connection.pending())


def _target(url: str) -> tuple[_Origin, str]:
    """Where to, and the path there. Raises Unsent."""
    # Of all the questions to a provider only the path differs.
    slash = url.find("/", url.find("://") + 3)
    if slash < 0:
        slash = len(url)
    return _origin(url[:slash]), url[slash:] or "/"


@lru_cache(maxsize=64)
def _origin(url: str) -> _Origin:
    """Raises Unsent."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Unsent(type(error).__name__) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise Unsent("InvalidURL")
    secure = parts.scheme == "https"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    named = host if port in (None, _PORTS[secure]) else f"{host}:{port}"
    return _Origin(secure, parts.hostname, port or _PORTS[secure], named)


@cache
def _trust() -> ssl.SSLContext:
    """httpx's certificates; nothing from the environment."""
    return httpx.create_ssl_context(trust_env=False)


os.register_at_fork(after_in_child=forget)
atexit.register(forget)

"""HTTP/1.1 with a provider: a request as it is sent, an answer as llhttp, the parser of Node.js, reads it (RFC 9112).

The standard library's client reads headers as those of an e-mail, which takes most of the time of a short exchange. An
answer whose length is not beyond doubt is `Garbled`: nothing is guessed, and its connection is not used again.
"""

import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from functools import cached_property
from typing import Any, Final

import httptools

_PIECE: Final = 65_536
# Of what is not body: all headers, and the lines around chunks of a byte.
_MAX_HEAD, _AROUND_A_BYTE = 65_536, 8
_WITH_BODY: Final = frozenset({"POST", "PUT"})
# What would end a line, and so begin another header or request.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTHS: Final = frozenset({"content-length", "transfer-encoding"})


class Garbled(Exception):
    """What came is not an answer of HTTP/1.1, or not all of it."""


class TooLarge(Exception):
    """The answer's body is longer than was allowed."""


class Headers(Mapping[str, str]):
    """By lower-case name, the last of each. Read when one is asked for, which is seldom."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs

    @cached_property
    def _read(self) -> dict[str, str]:
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._pairs}

    def __getitem__(self, name: str) -> str:
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


class Answer:
    """What was read so far, as the parser tells it. `whole`: all of it is there; `kept`: the connection may be used
    again."""

    __slots__ = ("_head", "_in_head", "_parser", "kept", "parts", "status", "whole")

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self._head, self.parts = list[tuple[bytes, bytes]](), list[bytes]()
        self.status, self.whole, self.kept, self._in_head = 0, False, False, True

    @property
    def headers(self) -> Headers:
        return Headers(self._head)

    def close(self) -> None:
        """All is read. The parser knows this object: only the garbage collector would find the two."""
        self._parser = None

    def feed(self, piece: bytes) -> list[bytes]:
        """What of it is body. Raises Garbled."""
        self.parts = []
        try:
            self._parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.kept = False
            if not self.whole:
                raise Garbled(type(error).__name__) from error
        return self.parts

    def end(self) -> None:
        """The other side closed: the end of a body whose length nobody told. Raises Garbled."""
        if self._in_head or self.status < 200 or _LENGTHS & set(self.headers):
            raise Garbled("cut")
        self.whole = True

    def on_message_begin(self) -> None:
        if self.whole:
            self.kept = False  # nobody asked for another one
        else:
            self._in_head, self._head = True, []

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers tell us nothing.
        if self._in_head:
            self._head.append((name, value))

    def on_headers_complete(self) -> None:
        if not self.whole:
            self._in_head, self.status = False, self._parser.get_status_code()

    def on_body(self, part: bytes) -> None:
        if not self.whole:
            self.parts.append(part)

    def on_message_complete(self) -> None:
        # Words before the answer (103 Early Hints) are passed over.
        if not self.whole and self.status >= 200:
            self.whole, self.kept = True, self._parser.should_keep_alive()


def request(
    method: str, path: str, *, host: str, headers: Mapping[str, str], content: bytes | None = None
) -> bytes:
    """All that is sent. Raises ValueError for what can't be written as one request."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *[f"{name}: {headers[name]}" for name in headers]]
    if content is not None or method in _WITH_BODY:
        lines.append(f"content-length: {len(content or b'')}")
    if " " in path or not path.isascii() or _CONTROL.search("\t".join(lines)):
        raise ValueError("not one request")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (content or b"")


def answer(
    connection: socket.socket, *, take: Callable[[bytes], object], max_bytes: int, ends_at: float
) -> Answer:
    """Reads one, and gives `take` its body in pieces. The connection's timeout bounds the wait for each piece.

    Raises Garbled, TooLarge, OSError, or TimeoutError at `ends_at` (on the monotonic clock).
    """
    with closing(Answer()) as reading:
        _read(reading, connection, take, max_bytes, ends_at)
    return reading


def _read(
    reading: Answer,
    connection: socket.socket,
    take: Callable[[bytes], object],
    max_bytes: int,
    ends_at: float,
) -> None:
    received = body = 0
    while not reading.whole:
        if time.monotonic() > ends_at:
            raise TimeoutError("the answer took too long to read")
        piece = connection.recv(_PIECE)
        if not piece:
            reading.end()
        received += len(piece)
        for part in reading.feed(piece):
            body += len(part)
            if body > max_bytes:
                raise TooLarge
            take(part)
        if received > _MAX_HEAD + _AROUND_A_BYTE * body:
            raise Garbled("too long")

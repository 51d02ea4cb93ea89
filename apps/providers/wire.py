"""HTTP/1.1 as a client writes and reads it (RFC 9112), and no more of it than an exchange with a provider needs.

The standard library's client reads headers as those of an e-mail, which takes most of the time of a short exchange. An
answer whose length is not beyond doubt is `Garbled`: nothing is guessed, and its connection is not used again.
"""

import re
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

_CHUNK: Final = 65_536
# All headers of an answer, and the line before a chunk.
_MAX_HEAD: Final = 65_536
_MAX_LINE: Final = 1_024
_WITH_BODY: Final = frozenset({"POST", "PUT"})
# What would end a line, and so begin another header or request.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_STATUS: Final = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: .*)?")
# Section 5.1: a name is followed by its colon at once, and nobody folds lines any more.
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_CHUNK_LENGTH: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_NO_CONTENT: Final = frozenset({204, 304})


class Garbled(Exception):
    """What came is not an answer of HTTP/1.1, or not all of it."""


class TooLarge(Exception):
    """The answer's body is longer than was allowed."""


class Head(NamedTuple):
    """`headers` by lower-case name, the last of each. `kept`: the connection may be used again."""

    status: int
    headers: dict[str, str]
    kept: bool


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


class Reader:
    """Reads one answer from a connection, whose timeout bounds the wait for each piece.

    Raises Garbled, TooLarge, OSError, or TimeoutError at `ends_at` (on the monotonic clock).
    """

    def __init__(self, connection: socket.socket, ends_at: float) -> None:
        self._connection, self._ends_at = connection, ends_at
        # What arrived, and how much of it was read.
        self._had, self._at = b"", 0

    def head(self) -> Head:
        """Words before the answer (103 Early Hints) are passed over."""
        while True:
            first, *lines = self._through(b"\r\n\r\n", _MAX_HEAD).decode("latin-1").split("\r\n")
            found = _STATUS.fullmatch(first)
            if not found or found[2] == "101":
                raise Garbled("no status")
            if found[2] >= "200":
                break
        headers = _headers(lines)
        closes = "close" in headers.get("connection", "").lower()
        return Head(int(found[2]), headers, found[1] == "1" and not closes)

    def body(self, head: Head, take: Callable[[bytes], object], max_bytes: int) -> bool:
        """Gives `take` the body in pieces. Whether the connection may be used again."""
        coding, length = head.headers.get("transfer-encoding"), head.headers.get("content-length")
        if head.status in _NO_CONTENT:
            whole = True
        elif coding is not None:
            # Both say how long it is: section 6.1 wants the connection closed after it.
            whole = length is None
            self._chunks(coding, take, max_bytes)
        elif length is not None:
            whole = True
            self._exactly(_number(length), take, max_bytes)
        else:
            whole = False
            self._to_the_end(take, max_bytes)
        return whole and head.kept and self._at == len(self._had)

    def _exactly(self, length: int, take: Callable[[bytes], object], max_bytes: int) -> None:
        left = length
        while left and max_bytes >= 0:
            piece = self._some(min(left, _CHUNK))
            if not piece:
                raise Garbled("cut")
            take(piece)
            left -= len(piece)
            max_bytes -= len(piece)
        if max_bytes < 0:
            raise TooLarge

    def _chunks(self, coding: str, take: Callable[[bytes], object], max_bytes: int) -> None:
        """Section 7.1."""
        if coding.lower() != "chunked":
            raise Garbled("coding")
        while True:
            found = _CHUNK_LENGTH.fullmatch(self._through(b"\r\n", _MAX_LINE))
            if not found:
                raise Garbled("chunk")
            length = int(found[1], 16)
            if not length:
                break
            self._exactly(length, take, max_bytes)
            max_bytes -= length
            if self._through(b"\r\n", _MAX_LINE):
                raise Garbled("chunk")
        # Trailers tell us nothing.
        while self._through(b"\r\n", _MAX_LINE):
            pass

    def _to_the_end(self, take: Callable[[bytes], object], max_bytes: int) -> None:
        while piece := self._some(_CHUNK):
            take(piece)
            max_bytes -= len(piece)
            if max_bytes < 0:
                raise TooLarge

    def _through(self, mark: bytes, most: int) -> bytes:
        """What comes before the next `mark`, which is read as well."""
        begin = self._at
        while (end := self._had.find(mark, begin)) < 0:
            begin = max(self._at, len(self._had) - len(mark) + 1)
            if len(self._had) - self._at > most:
                raise Garbled("too long")
            piece = self._receive(_CHUNK)
            if not piece:
                raise Garbled("cut")
            begin -= self._at
            self._had, self._at = self._had[self._at :] + piece, 0
        found = self._had[self._at : end]
        self._at = end + len(mark)
        return found

    def _some(self, most: int) -> bytes:
        """At most so much; nothing at the end."""
        if self._at == len(self._had):
            return self._receive(most)
        piece = self._had[self._at : self._at + most]
        self._at += len(piece)
        return piece

    def _receive(self, most: int) -> bytes:
        if time.monotonic() > self._ends_at:
            raise TimeoutError("the answer took too long to read")
        return self._connection.recv(most)


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        if not colon or not _NAME.fullmatch(name):
            raise Garbled("header")
        if name == "content-length" and headers.get(name, value) != value:
            raise Garbled("length")
        headers[name] = value
    return headers


def _number(length: str) -> int:
    if not _LENGTH.fullmatch(length):
        raise Garbled("length")
    return int(length)

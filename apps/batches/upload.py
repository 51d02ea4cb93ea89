"""What was uploaded, in a file on disk, and its items one by one: a batch may be larger than the memory."""

import codecs
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any, Final

from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.http import HttpRequest, UnreadablePostError
from django.http.multipartparser import MultiPartParserError

from apps.core import parsers, rows
from apps.core.errors import (
    DomainError,
    InvalidRequest,
    LengthRequired,
    MalformedRequest,
    RequestTooLarge,
    UnsupportedMediaType,
)

MAX_BYTES: Final = 200_000_000
# As much as POST /v1/jobs takes.
MAX_ITEM_BYTES: Final = 1_000_000
LINES: Final = ("application/jsonl", "application/x-ndjson", "application/x-jsonlines")
ARRAY: Final = "application/json"
FORM: Final = "multipart/form-data"
# Boundaries and fields of a form.
_FORM_BYTES: Final = 100_000
_CHUNK: Final = 65_536
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class Upload:
    """`digest`: SHA-256 of the content. `fields`: of the form, none where it was no form."""

    content: IO[bytes]
    is_array: bool
    digest: bytes
    fields: Mapping[str, str]

    def items(self) -> Iterator[tuple[int, Any]]:
        """Each item's line (or place in the array), from 1, and its value, or the DomainError that says why there is
        none. Raises MalformedRequest where the items cannot be told apart."""
        self.content.seek(0)
        pieces = _elements(self.content) if self.is_array else _lines(self.content)
        for line, piece in pieces:
            try:
                yield line, parsers.loads(piece) if isinstance(piece, bytes) else piece
            except DomainError as error:
                yield line, error


@contextmanager
def received(request: HttpRequest) -> Iterator[Upload]:
    """The body of the request, read to its end. Raises LengthRequired, RequestTooLarge, UnsupportedMediaType or
    MalformedRequest."""
    _check_head(request)
    # A slow sender holds no database connection.
    rows.let_go()
    with TemporaryFile(prefix="batch-") as kept:
        if request.content_type == FORM:
            yield _form(request, kept)
        else:
            length = int(request.META["CONTENT_LENGTH"])
            digest = _keep(iter(lambda: request.read(_CHUNK), b""), kept)
            if kept.tell() != length:
                raise MalformedRequest("The body ended before it was complete.")
            yield Upload(kept, request.content_type == ARRAY, digest, {})


def _check_head(request: HttpRequest) -> None:
    if "Transfer-Encoding" in request.headers or not request.META.get("CONTENT_LENGTH"):
        raise LengthRequired("Send Content-Length instead of Transfer-Encoding.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Compressed request bodies are not accepted.")
    if request.content_type not in (*LINES, ARRAY, FORM):
        raise UnsupportedMediaType(f"Send {LINES[0]}, {ARRAY} (an array) or {FORM} (the lines as `file`).")
    charset = (request.content_params or {}).get("charset", "utf-8")
    if charset.lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("JSON is UTF-8 (RFC 8259, section 8.1).")
    most = MAX_BYTES + (_FORM_BYTES if request.content_type == FORM else 0)
    if int(request.META["CONTENT_LENGTH"]) > most:
        raise _too_large()


def _too_large() -> RequestTooLarge:
    return RequestTooLarge(f"A batch has at most {MAX_BYTES // 1_000_000} MB.")


def _keep(pieces: Iterator[bytes], kept: IO[bytes]) -> bytes:
    digest = hashlib.sha256()
    try:
        for piece in pieces:
            digest.update(piece)
            kept.write(piece)
    except UnreadablePostError as error:
        raise MalformedRequest("The body ended before it was complete.") from error
    return digest.digest()


def _form(request: HttpRequest, kept: IO[bytes]) -> Upload:
    """Django's own parser puts the file on disk as it comes."""
    request.upload_handlers = [TemporaryFileUploadHandler(request)]
    try:
        fields, files = request.POST.dict(), request.FILES
    except (MultiPartParserError, UnreadablePostError) as error:
        raise MalformedRequest(f"The form could not be read: {error}") from error
    file = files.get("file")
    if file is None or len(files) > 1:
        raise InvalidRequest.field("file", "is the one file of the form, with the lines", "missing")
    digest = _keep(iter(file.chunks()), kept)
    if kept.tell() > MAX_BYTES:
        raise _too_large()
    return Upload(
        kept, file.content_type == ARRAY, digest, {name: str(text) for name, text in fields.items()}
    )


def _lines(content: IO[bytes]) -> Iterator[tuple[int, bytes | DomainError]]:
    """Lines of any length, none read further than an item may be long. Blank ones are none."""
    line = 0
    while piece := content.readline(MAX_ITEM_BYTES + 2):
        line += 1
        if line == 1:
            piece = piece.removeprefix(codecs.BOM_UTF8)
        if len(piece) > MAX_ITEM_BYTES and not piece.endswith(b"\n"):
            while (rest := content.readline(_CHUNK)) and not rest.endswith(b"\n"):
                pass
            yield line, RequestTooLarge(f"A line has at most {MAX_ITEM_BYTES // 1_000_000} MB.")
        elif piece := piece.strip(b" \t\r\n"):
            yield line, piece


def _elements(content: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    array = _Array(content)
    try:
        yield from enumerate(array.elements(), start=1)
    except UnicodeDecodeError as error:
        raise MalformedRequest("The body is not UTF-8.") from error
    finally:
        array.close()


class _Array:
    """The elements of a JSON array, each as its own text, with no more than one of them in memory."""

    def __init__(self, content: IO[bytes]) -> None:
        self._text = io.TextIOWrapper(content, encoding="utf-8-sig", newline="")
        self._decoder = json.JSONDecoder()
        self._buffer, self._at = "", 0

    def close(self) -> None:
        with suppress(UnicodeDecodeError):
            self._text.detach()

    def elements(self) -> Iterator[bytes]:
        if self._next() != "[":
            raise MalformedRequest("The body should be a JSON array of items.")
        self._at += 1
        more = self._next() != "]"
        while more:
            yield self._element()
            separator = self._next()
            if separator not in (",", "]"):
                raise MalformedRequest("The body is not JSON: a comma or the end of the array is missing.")
            more = separator == ","
            self._at += more
        self._at += 1
        if self._next():
            raise MalformedRequest("The body is not JSON: something follows the array.")

    def _element(self) -> bytes:
        self._next()
        while True:
            try:
                _, end = self._decoder.raw_decode(self._buffer, self._at)
            except RecursionError as error:
                raise MalformedRequest("The body is nested too deeply.") from error
            except ValueError as error:
                # Half of it, perhaps.
                if len(self._buffer) - self._at > MAX_ITEM_BYTES or not self._more():
                    raise MalformedRequest(f"The body is not JSON: {error}") from error
                continue
            if end < len(self._buffer) or not self._more():
                break  # a number that ends with the buffer may go on
        piece, self._at = self._buffer[self._at : end], end
        return piece.encode()

    def _next(self) -> str:
        """The next character that is no white space, not consumed; empty at the end."""
        while True:
            found = _SPACE.match(self._buffer, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        read = self._text.read(_CHUNK)
        self._buffer, self._at = self._buffer[self._at :] + read, 0
        return bool(read)

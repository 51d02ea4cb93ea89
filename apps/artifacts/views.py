"""The door for files: `GET /v1/artifacts/{id}?expires=&signature=`, opened by the signature alone.

The content comes from a model that a stranger prompted, so no browser may run it on our origin
(OWASP File Upload Cheat Sheet): nosniff, a sandbox, a file name of ours.
"""

import re
import uuid
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, ClassVar

from django.core.files import File
from django.core.files.storage import default_storage
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_safe

from apps.artifacts import store
from apps.artifacts.models import Artifact
from apps.core import api_errors, clock
from apps.core.errors import DomainError, NotFound, ServiceUnavailable

_CHUNK = 262_144
_HEADERS = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, max-age=300",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class InvalidSignature(DomainError):
    code: ClassVar[str] = "invalid_signature"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "The link is not valid or has expired"


class ArtifactGone(DomainError):
    code: ClassVar[str] = "artifact_gone"
    status: ClassVar[int] = 410
    title: ClassVar[str] = "The file has been deleted"


@require_safe
def content(request: HttpRequest, artifact_id: uuid.UUID) -> HttpResponseBase:
    """The file (200, 206 for a range, 304), a redirect to the storage that has it, or 403, 404, 410, 416."""
    try:
        artifact = _admit(request, artifact_id)
        etag = f'"{artifact.sha256}"'
        unchanged = get_conditional_response(request, etag=etag, response=None)
        return unchanged or _send(request, artifact, etag)
    except DomainError as error:
        return api_errors.respond(error)


def _admit(request: HttpRequest, artifact_id: uuid.UUID) -> Artifact:
    expires, signature = request.GET.get("expires", ""), request.GET.get("signature", "")
    reader = store.reader_of(artifact_id, expires, signature)
    if reader is None:
        raise InvalidSignature("Read the job again for a fresh link.")
    artifact = Artifact.objects.filter(id=artifact_id).first()
    if artifact is None:
        raise NotFound("There is no such artifact.")
    if artifact.deleted_at or (artifact.expires_at and artifact.expires_at <= clock.now()):
        raise ArtifactGone("Its retention time is over.")
    if artifact.quarantined_at and reader != store.OPS:
        raise ArtifactGone("It was refused by the platform's checks.")
    return artifact


def _send(request: HttpRequest, artifact: Artifact, etag: str) -> HttpResponseBase:
    try:
        default_storage.path(artifact.storage_key)
    except NotImplementedError:  # a remote storage serves its own files
        return HttpResponseRedirect(default_storage.url(artifact.storage_key))
    try:
        return _stream(request, artifact, etag)
    except FileNotFoundError:
        raise ArtifactGone("The file is no longer there.") from None
    except OSError:
        raise ServiceUnavailable("The storage does not answer.", retry_after_s=10) from None


def _stream(request: HttpRequest, artifact: Artifact, etag: str) -> HttpResponseBase:
    extension = store.EXTENSIONS.get(artifact.media_type, "bin")
    headers = {
        **_HEADERS,
        "Content-Type": artifact.media_type,
        "Content-Disposition": f'inline; filename="{artifact.id}.{extension}"',
        "ETag": etag,
    }
    size, status = artifact.size_bytes, HTTPStatus.OK
    span = _range(request, etag, size)
    if span is None:
        span = range(size)
    elif span:
        status = HTTPStatus.PARTIAL_CONTENT
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
    else:
        outside = {"Content-Range": f"bytes */{size}"}
        return HttpResponse(status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=outside)
    headers["Content-Length"] = str(len(span))
    if request.method == "HEAD":
        return HttpResponse(status=status, headers=headers)
    file = default_storage.open(artifact.storage_key)
    response = StreamingHttpResponse(_pieces(file, span), status=status, headers=headers)
    response._resource_closers.append(file.close)  # type: ignore[attr-defined]  # missing in django-stubs
    return response


def _range(request: HttpRequest, etag: str, size: int) -> range | None:
    """The one range asked for (RFC 9110, section 14), empty if it lies outside; None for everything.

    What is not understood is ignored, as the RFC allows: several ranges, another unit, a stale If-Range.
    """
    match = re.fullmatch(r"bytes=([0-9]{0,15})-([0-9]{0,15})", request.headers.get("Range", ""))
    if match is None or request.headers.get("If-Range", etag) != etag:
        return None
    first, last = match.groups()
    if not first:  # the last so many bytes
        return range(size)[max(0, size - int(last)) :] if last else None
    if last and int(last) < int(first):
        return None
    return range(size)[int(first) : int(last) + 1 if last else size]


def _pieces(file: "File[Any]", span: range) -> Iterator[bytes]:
    file.seek(span.start)
    left = len(span)
    while left and (piece := file.read(min(left, _CHUNK))):
        left -= len(piece)
        yield piece

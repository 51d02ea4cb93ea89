"""Fetch a file, keep it, hand it out by a signed link, let it expire.

A provider's output is untrusted: its type is read from its first bytes and must be on the list of its kind
(never SVG, HTML or XML, which a browser would run). Storage is Django's: local files, or S3 by settings.
"""

import secrets
import uuid
from collections.abc import Collection, Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from shutil import copyfileobj
from tempfile import NamedTemporaryFile
from typing import Any, Final, Literal

import filetype
import structlog
from django.conf import settings
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils.crypto import constant_time_compare, salted_hmac

from apps.artifacts.models import Artifact, Spooled
from apps.core import clock, http, rows

log = structlog.get_logger(__name__)

# Less than the lease of the job that waits for it.
DOWNLOAD_TIMEOUT_S: Final = 60.0
# Links of one artifact stay the same this long, so that repeated reads of a job can be cached and compared.
URL_STEP_S: Final = 300

Reader = Literal["client", "ops"]
CLIENT: Final[Reader] = "client"
OPS: Final[Reader] = "ops"

_SNIFFERS: Final = {
    "image": filetype.image_match,
    "video": filetype.video_match,
    "audio": filetype.audio_match,
}
# What `filetype` finds → (media type as registered at IANA, file name extension).
_ALLOWED: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "image": {
        "image/png": ("image/png", "png"),
        "image/jpeg": ("image/jpeg", "jpg"),
        "image/webp": ("image/webp", "webp"),
    },
    "video": {"video/mp4": ("video/mp4", "mp4"), "video/webm": ("video/webm", "webm")},
    "audio": {
        "audio/mpeg": ("audio/mpeg", "mp3"),
        "audio/x-wav": ("audio/wav", "wav"),
        "audio/ogg": ("audio/ogg", "ogg"),
        "audio/x-flac": ("audio/flac", "flac"),
        "audio/mp4": ("audio/mp4", "m4a"),
    },
}
EXTENSIONS: Final = dict(pair for types in _ALLOWED.values() for pair in types.values())


class BadMedia(Exception):
    """The bytes are not a file of the kind that was asked for."""


class StoreUnavailable(Exception):
    """The storage did not take or give the file. Try again later; never generate again."""


def fetch(
    *,
    team_id: uuid.UUID,
    url: str | None = None,
    data: bytes | None = None,
    kind: str,
    allow_hosts: Collection[str] | None = None,
    expires_at: datetime | None = None,
    timeout_s: float = DOWNLOAD_TIMEOUT_S,
) -> Artifact:
    """Keeps the file at `url`, or the bytes in `data`, if it is of `kind`: image, video or audio.

    One INSERT; call it outside a transaction. Bytes can't be fetched again later: while the storage is away they are
    kept in the database, and whoever opens the artifact gets StoreUnavailable until they could be moved.

    Raises http.UnsafeUrl, http.FetchFailed, BadMedia, or StoreUnavailable when our own side failed.
    """
    owner: dict[str, Any] = {"team_id": team_id, "expires_at": expires_at}
    if data is not None:
        return _keep_somewhere(data, kind, owner)
    if url is None:
        raise BadMedia("neither an address nor bytes")
    download = http.download(
        url, max_bytes=settings.ARTIFACT_MAX_BYTES, timeout_s=timeout_s, allow_hosts=allow_hosts
    )
    try:
        with download as got, got.path.open("rb") as content:
            return _keep(File(content), got.sha256, kind, owner)
    except OSError as error:  # the temporary file: our disk is full
        raise StoreUnavailable(str(error)) from error


def open(artifact_id: uuid.UUID | str) -> "File[Any]":  # noqa: A001 - reads as store.open(…)
    """The content, to be closed by the caller. Raises Artifact.DoesNotExist, StoreUnavailable."""
    key = _storage_key(artifact_id)
    with _storage_errors():
        return default_storage.open(key)


@contextmanager
def local_path(artifact_id: uuid.UUID | str) -> Generator[Path]:
    """The content as a local file, for tools that need one. Raises like `open`."""
    key = _storage_key(artifact_id)
    try:
        path = Path(default_storage.path(key))
    except NotImplementedError:  # a remote storage
        with NamedTemporaryFile(prefix="artifact-") as copy:
            with _storage_errors(), default_storage.open(key) as content:
                copyfileobj(content, copy)
                copy.flush()
            yield Path(copy.name)
    else:
        if not path.is_file():
            raise StoreUnavailable("the file is not where it was put")
        yield path


_PLACE = """
SELECT a.storage_key, s.artifact_id IS NOT NULL
FROM artifacts_artifact a LEFT JOIN artifacts_spooled s ON s.artifact_id = a.id WHERE a.id = %(id)s
"""
_MOVED = """
WITH spooled AS (DELETE FROM artifacts_spooled WHERE artifact_id = %(id)s RETURNING artifact_id)
UPDATE artifacts_artifact a SET storage_key = %(key)s FROM spooled WHERE a.id = spooled.artifact_id
"""


def _storage_key(artifact_id: uuid.UUID | str) -> str:
    """Where the file is. Raises Artifact.DoesNotExist, StoreUnavailable."""
    found = rows.select(_PLACE, {"id": artifact_id})
    if not found:
        raise Artifact.DoesNotExist
    key, is_spooled = found[0]
    return _move(artifact_id, str(key)) if is_spooled else str(key)


def _move(artifact_id: uuid.UUID | str, key: str) -> str:
    """From the database into the storage; two may try at once."""
    for content in Spooled.objects.filter(artifact_id=artifact_id).values_list("content", flat=True):
        with _storage_errors():
            saved = default_storage.save(key, ContentFile(bytes(content)))
        if rows.execute(_MOVED, {"id": artifact_id, "key": saved}):
            return saved
        with _storage_errors():
            default_storage.delete(saved)
    return str(Artifact.objects.values_list("storage_key", flat=True).get(pk=artifact_id))


_DESCRIBE = """
UPDATE artifacts_artifact SET width = %(width)s, height = %(height)s, duration_s = %(duration_s)s WHERE id = %(id)s
"""


def describe(
    artifact_id: uuid.UUID | str, *, width: int | None, height: int | None, duration_s: float | None = None
) -> None:
    """Records what decoding found: pixels and seconds."""
    values = {"id": artifact_id, "width": width, "height": height, "duration_s": duration_s}
    rows.execute(_DESCRIBE, values)


_REPLACE = """
WITH old AS (SELECT id, storage_key FROM artifacts_artifact WHERE id = %(id)s)
UPDATE artifacts_artifact a SET sha256 = %(sha256)s, size_bytes = %(size_bytes)s, storage_key = %(storage_key)s,
    width = %(width)s, height = %(height)s, duration_s = %(duration_s)s
FROM old WHERE a.id = old.id RETURNING old.storage_key
"""


def replace(
    artifact_id: uuid.UUID | str,
    content: bytes,
    *,
    media_type: str,
    width: int | None,
    height: int | None,
    duration_s: float | None,
) -> str:
    """The artifact has this content from now on, and these measures; the digest of it, in hex.

    The old file goes last: whoever dies in between leaves a file too many, never one too few. Raises StoreUnavailable.
    """
    digest = sha256(content).hexdigest()
    with _storage_errors():
        key = default_storage.save(_new_key(digest, EXTENSIONS[media_type]), ContentFile(content))
    measures = {"width": width, "height": height, "duration_s": duration_s}
    values = {"id": artifact_id, "sha256": digest, "size_bytes": len(content), "storage_key": key, **measures}
    for (old_key,) in rows.select(_REPLACE, values):
        with _storage_errors():
            default_storage.delete(old_key)
    return digest


def quarantine(artifact_id: uuid.UUID | str) -> None:
    """Served to nobody but ops from now on, and deleted after `QUARANTINE_S`."""
    at = clock.now()
    Artifact.objects.filter(id=artifact_id, quarantined_at=None).update(
        quarantined_at=at, expires_at=at + timedelta(seconds=settings.QUARANTINE_S)
    )


def release(artifact_id: uuid.UUID | str) -> bool:
    """Ends a quarantine. False if the file is gone already."""
    kept = Artifact.objects.filter(id=artifact_id, deleted_at=None)
    return bool(kept.update(quarantined_at=None, expires_at=expires_at()))


def expires_at() -> datetime | None:
    """When an artifact that is made now goes; None: it stays."""
    kept_s = settings.ARTIFACT_RETENTION_S
    return clock.now() + timedelta(seconds=kept_s) if kept_s else None


def signed_url(artifact_id: uuid.UUID | str, *, reader: Reader = CLIENT) -> str:
    """An absolute link that needs no key and works for `ARTIFACT_URL_TTL_S` to five minutes more.

    `reader`: OPS for a link that also shows what is in quarantine.
    """
    earliest = int(clock.now().timestamp()) + settings.ARTIFACT_URL_TTL_S
    expires = -(-earliest // URL_STEP_S) * URL_STEP_S
    query = f"expires={expires}&signature={_signature(artifact_id, expires, reader)}"
    return f"{settings.PUBLIC_URL}/v1/artifacts/{artifact_id}?{query}"


def reader_of(artifact_id: uuid.UUID, expires: str, signature: str) -> Reader | None:
    """For whom the link was signed; None if it is not ours or has expired."""
    if not (expires.isascii() and expires.isdecimal() and len(expires) <= 12):
        return None
    if clock.now().timestamp() >= int(expires):
        return None
    for reader in (CLIENT, OPS):
        if constant_time_compare(signature, _signature(artifact_id, int(expires), reader)):
            return reader
    return None


def any_gone(outputs: str) -> str:
    """SQL, for statements of others: whether one of the artifacts in the JSON column `outputs` is no more to be had.
    Wants the parameter `now`."""
    return f"""EXISTS (
        SELECT 1 FROM jsonb_array_elements({outputs}) output
        LEFT JOIN artifacts_artifact kept ON kept.id = (output->>'artifact_id')::uuid
        WHERE kept.id IS NULL OR kept.deleted_at IS NOT NULL OR kept.expires_at <= %(now)s)"""  # noqa: S608 - a column


def expire(limit: int = 500) -> int:
    """Deletes the files of up to `limit` expired rows; returns how many. Safe to repeat and to interrupt."""
    due = Artifact.objects.filter(deleted_at=None, expires_at__lte=clock.now()).order_by("expires_at")
    deleted = 0
    for artifact_id, key in due.values_list("id", "storage_key")[:limit]:
        with _storage_errors():
            default_storage.delete(key)
        deleted += Artifact.objects.filter(id=artifact_id, deleted_at=None).update(deleted_at=clock.now())
    Spooled.objects.filter(artifact__deleted_at__isnull=False).delete()
    return deleted


def _keep(content: "File[Any]", digest: str, kind: str, owner: dict[str, Any]) -> Artifact:
    artifact = _described(content, digest, kind, owner)
    with _storage_errors():
        artifact.storage_key = default_storage.save(artifact.storage_key, content)
    rows.insert(artifact)
    return artifact


def _described(content: "File[Any]", digest: str, kind: str, owner: dict[str, Any]) -> Artifact:
    """Its row, not yet stored, with a name for its file. Raises BadMedia."""
    media_type, extension = _sniff(content, kind)
    key = _new_key(digest, extension)
    return Artifact(sha256=digest, media_type=media_type, size_bytes=content.size, storage_key=key, **owner)


def _new_key(digest: str, extension: str) -> str:
    """Random, so that a key can be neither guessed nor shared; the digest says what should be in the file."""
    token = secrets.token_hex(8)
    return f"{token[:2]}/{token}-{digest}.{extension}"


def _keep_somewhere(data: bytes, kind: str, owner: dict[str, Any]) -> Artifact:
    digest = sha256(data).hexdigest()
    try:
        return _keep(ContentFile(data), digest, kind, owner)
    except StoreUnavailable as error:
        log.warning("artifact.spooled", error=str(error), size_bytes=len(data))
    artifact = _described(ContentFile(data), digest, kind, owner)
    with transaction.atomic():
        rows.insert(artifact)
        rows.insert(Spooled(artifact=artifact, content=data))
    return artifact


def _sniff(content: "File[Any]", kind: str) -> tuple[str, str]:
    """The media type and extension that the first bytes show."""
    content.seek(0)
    found = _SNIFFERS[kind](content.read(8192))
    content.seek(0)
    if found is None or found.mime not in _ALLOWED[kind]:
        raise BadMedia(f"not {kind}: {found.mime if found else 'unknown content'}")
    return _ALLOWED[kind][found.mime]


def _signature(artifact_id: uuid.UUID | str, expires: int, reader: Reader) -> str:
    salt = f"apps.artifacts.signed_url{'.ops' if reader == OPS else ''}"
    return salted_hmac(salt, f"{artifact_id}:{expires}", algorithm="sha256").hexdigest()


@contextmanager
def _storage_errors() -> Generator[None]:
    """Whatever a storage raises (OSError, botocore's own) means that it is down or full."""
    try:
        yield
    except Exception as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error

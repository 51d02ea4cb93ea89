"""The file decodes to its end, as what its first bytes say, within limits.

`load()` and full decoding, because headers alone hide truncation: Pillow's `verify()` misses a truncated
JPEG, and FFmpeg plays the first half of a file without complaint.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from apps.validation.checks.results import MediaInfo, Subject

MAX_PIXELS: Final = 64_000_000
MAX_SIDE: Final = 16_384
MAX_DURATION_S: Final = 600.0
MAX_FRAMES: Final = 60 * 600
# FFmpeg's own names; each reads this one file only: playlists (hls, concat) would open others.
_CONTAINERS: Final = {
    "video/mp4": "mp4",
    "video/webm": "matroska",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "audio/mp4": "mp4",
}
_PICTURES: Final = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}


class Undecodable(Exception):
    """The reason, fit for a client's eyes."""


class Watcher(Protocol):
    """Told of each frame of a recording, as the library has it, while it is decoded."""

    def frame(self, frame: Any) -> None: ...


@contextmanager
def picture(path: Path, media_type: str) -> Iterator[Any]:
    """The decoded Pillow image. Raises Undecodable."""
    from PIL import Image

    if media_type not in _PICTURES:
        raise Undecodable(f"{media_type} is not an accepted image type")
    try:
        with warnings.catch_warnings():
            # Our own limit, below, is stricter than the one Pillow warns of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=[_PICTURES[media_type]]) as image:
                _check_size(*image.size)
                if getattr(image, "is_animated", False):
                    raise Undecodable("the image is animated")
                image.load()
                loaded = image.copy()
    except Undecodable:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise what they like: SyntaxError, struct.error, …
        raise Undecodable(f"the image does not decode: {_short(error, path)}") from None
    # Outside: what goes wrong with the measures is our fault, not the picture's.
    yield loaded


def _check_size(width: int, height: int) -> None:
    """Before anything is decoded: a few bytes can announce gigabytes of pixels."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise Undecodable(f"{width} × {height} pixels are too many")


def pictures(subject: Subject) -> list[Any]:
    """The picture, or stills of the film, as Pillow images; decoded once for all checks. Raises Undecodable."""
    if not subject.stills.pictures():
        if subject.kind == "image":
            with picture(subject.path, subject.media_type) as image:
                subject.stills.picture(image)
        else:
            recording(subject, subject.stills)
    return subject.stills.pictures()


@dataclass(slots=True)
class _Seen:
    """What has been decoded so far. `ends_at_s` on the recording's own clock."""

    frames: int = 0
    ends_at_s: float = 0.0
    width: int | None = None
    height: int | None = None


def recording(subject: Subject, *watchers: Watcher) -> MediaInfo:
    """Decodes a video or audio file to its end, showing each frame to the watchers. Raises Undecodable."""
    import av

    path, media_type, with_video = subject.path, subject.media_type, subject.kind == "video"

    if media_type not in _CONTAINERS:
        raise Undecodable(f"{media_type} is not an accepted media type")
    options = {"protocol_whitelist": "file"}
    try:
        with av.open(
            f"file:{path}", format=_CONTAINERS[media_type], options=options, metadata_errors="ignore"
        ) as container:
            return _decode_all(container, watchers, with_video=with_video)
    except Undecodable:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise Undecodable(
            f"the {'video' if with_video else 'audio'} does not decode: {_short(error, path)}"
        ) from None


def _decode_all(container: Any, watchers: Sequence[Watcher], *, with_video: bool) -> MediaInfo:
    streams = container.streams.video if with_video else container.streams.audio
    if not streams:
        raise Undecodable("there is no video in it" if with_video else "there is no sound in it")
    stream = streams[0]
    if with_video:
        _check_size(stream.width, stream.height)
    announced_s = _announced_s(container, stream)
    if announced_s > MAX_DURATION_S:
        raise Undecodable(f"{announced_s:.0f} s are too long")
    # Damage is a failure, not something to paint over.
    stream.codec_context.options = {"err_detect": "explode"}
    seen = _Seen()
    for frame in _frames(container, stream):
        _count(seen, frame, with_video=with_video)
        for watcher in watchers:
            watcher.frame(frame)
    return _conclude(seen, announced_s)


def _announced_s(container: Any, stream: Any) -> float:
    """What the headers promise, 0 if nothing."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1_000_000


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise Undecodable("a part of it is damaged")
        yield from packet.decode()


def _count(seen: _Seen, frame: Any, *, with_video: bool) -> None:
    if with_video:
        _check_size(frame.width, frame.height)
        seen.width, seen.height = frame.width, frame.height
        length_s = float((frame.duration or 0) * frame.time_base) if frame.time_base else 0.0
    else:
        length_s = frame.samples / frame.sample_rate
    seen.frames += 1
    starts_at_s = seen.ends_at_s if frame.time is None else frame.time
    seen.ends_at_s = max(seen.ends_at_s, starts_at_s + length_s)
    if seen.frames > MAX_FRAMES * (1 if with_video else 10) or seen.ends_at_s > MAX_DURATION_S:
        raise Undecodable("it is too long")


def _conclude(seen: _Seen, announced_s: float) -> MediaInfo:
    if not seen.frames:
        raise Undecodable("there is nothing in it")
    if announced_s - seen.ends_at_s > max(0.25, 0.05 * announced_s):
        raise Undecodable(f"it ends after {seen.ends_at_s:.2f} of {announced_s:.2f} s")
    return MediaInfo(seen.width, seen.height, round(seen.ends_at_s, 3))


def _short(error: Exception, path: Path) -> str:
    """Without our own path in it, which libraries like to quote."""
    return f"{type(error).__name__}: {error}".replace(str(path), "file")[:160]

"""Files that must not be delivered again: the same bytes, or a picture that looks the same, also mirrored.

A crop escapes, as does any larger change: this finds copies, it does not recognise contents.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from apps.core.remembered import Remembered
from apps.validation.models import Takedown

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Of 64 bits. Unrelated pictures differ in about half of them.
MAX_DISTANCE: Final = 8
_SIDE, _LOW = 32, 8


def find(sha256: str, image: Any | None) -> str:
    """The reason why the file was taken down, empty if it was not. `image`: a Pillow image, if it is a picture."""
    by_bytes, by_look = _listed()
    if reason := by_bytes.get(sha256):
        return reason
    if image is None or not by_look:
        return ""
    looks = [phash(image), phash(_mirrored(image))]
    for known, reason in by_look:
        if any((known ^ look).bit_count() <= MAX_DISTANCE for look in looks):
            return reason
    return ""


def add(digests: Iterable[str], *, look: str, reason: str) -> None:
    """Lists a file by the SHA-256 of each form that it was seen in, and by its look (both in hex, empty if not known).
    What is listed already stays as it is."""
    for digest in filter(None, digests):
        if not Takedown.objects.filter(sha256=digest).exists():
            Takedown.objects.create(sha256=digest, reason=reason)
    if look and not Takedown.objects.filter(phash=look).exists():
        Takedown.objects.create(phash=look, reason=reason)
    forget()


def phash(image: Any) -> int:
    """64 bits: the signs of the lowest frequencies of a 32 by 32 copy against their median (Zauner, "Implementation and
    Benchmarking of Perceptual Image Hash Functions", 2010)."""
    import cv2
    import numpy
    from PIL import Image

    grey = numpy.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))
    low: NDArray[numpy.float32] = cv2.dct(grey.astype(numpy.float32))[:_LOW, :_LOW]  # type: ignore[assignment]  # as cv2 has it
    bits = (low > numpy.median(low)).ravel()
    return int("".join("01"[bit] for bit in bits.astype(int)), 2)


def text(look: int) -> str:
    """As it is listed."""
    return f"{look:016x}"


def _mirrored(image: Any) -> Any:
    from PIL import ImageOps

    return ImageOps.mirror(image)


def _read() -> tuple[dict[str, str], list[tuple[int, str]]]:
    rows = list(Takedown.objects.all())
    by_bytes = {row.sha256: row.reason for row in rows if row.sha256}
    return by_bytes, [(int(row.phash, 16), row.reason) for row in rows if row.phash]


_listed = Remembered(_read)
forget = _listed.forget

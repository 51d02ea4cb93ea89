"""The pictures that are looked at: a picture itself, or a few frames of a film, spread evenly over it."""

from dataclasses import dataclass, field
from typing import Any, Final

COUNT: Final = 5
# Models look at 224 to 320 pixels a side, a judge at 768.
_MAX_SIDE: Final = 1024


@dataclass(slots=True)
class Stills:
    """Told of each frame of a film as it is decoded, it keeps every first, second, fourth, … of them: at most twice as
    many as are wanted, however long the film is."""

    _kept: list[Any] = field(default_factory=list)
    _every: int = 1
    _seen: int = 0
    _picture: Any = None

    def frame(self, frame: Any) -> None:
        if self._seen % self._every == 0:
            self._kept.append(frame)
        self._seen += 1
        if len(self._kept) > 2 * COUNT:
            self._kept = self._kept[::2]
            self._every *= 2

    def picture(self, image: Any) -> None:
        """There is nothing else to see."""
        self._picture = image

    def pictures(self) -> list[Any]:
        """Pillow images; none before anything was decoded."""
        if self._picture is not None:
            return [self._picture]
        count = min(COUNT, len(self._kept))
        # The middles of equal parts: first and last frames are often black.
        return [_image(self._kept[(2 * part + 1) * len(self._kept) // (2 * count)]) for part in range(count)]


def _image(frame: Any) -> Any:
    scale = min(1.0, _MAX_SIDE / max(frame.width, frame.height))
    return frame.to_image(
        width=max(1, round(frame.width * scale)), height=max(1, round(frame.height * scale))
    )

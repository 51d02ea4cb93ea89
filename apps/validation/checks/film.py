"""How good a film is technically: is there something to see, does it move, and as often as was asked for."""

from dataclasses import dataclass, field
from typing import Any, Final

from apps.validation.checks.picture import ramp

_BLACK_LUMA: Final = 32
_BLACK_SHARE: Final = 0.98
_FROZEN_DELTA: Final = 0.3
_SEEN_STILL_S: Final = 0.5
MAX_BLACK: Final = 0.5
MAX_FROZEN: Final = 0.8
FPS_TOLERANCE: Final = 0.05
# Every fourth pixel of every fourth row tells as much of either.
_STEP: Final = 4


@dataclass(slots=True)
class Film:
    """Told of each frame as it is decoded; keeps none but the last that differed."""

    frames: int = 0
    black: int = 0
    frozen_s: float = 0.0
    _began_s: float = 0.0
    _changed_s: float = 0.0
    _at_s: float = 0.0
    _last: Any = field(default=None, repr=False)

    def frame(self, frame: Any) -> None:
        luma = _luma(frame)
        self.frames += 1
        self.black += bool((luma < _BLACK_LUMA).mean() >= _BLACK_SHARE)
        self._at_s = self._at_s if frame.time is None else frame.time
        if self._last is None:
            self._began_s = self._changed_s = self._at_s
        if self._last is None or _differs(luma, self._last):
            self.frozen_s += self._still_s()
            self._changed_s, self._last = self._at_s, luma

    def _still_s(self) -> float:
        """Since the last change, if that is long enough to be seen: slow motion differs only after some frames."""
        still_s = self._at_s - self._changed_s
        return still_s if still_s > _SEEN_STILL_S else 0.0

    def details(self) -> dict[str, float]:
        """Shares of the frames and of the time, 0 to 1."""
        length_s = self._at_s - self._began_s
        frozen_s = self.frozen_s + self._still_s()
        return {
            "black": round(self.black / max(1, self.frames), 4),
            "frozen": round(frozen_s / length_s, 4) if length_s else 0.0,
        }

    def scores(self) -> dict[str, float]:
        shares = self.details()
        return {"black": ramp(shares["black"], MAX_BLACK, 0.1), "frozen": ramp(shares["frozen"], 1, 0.2)}

    def problems(self, *, duration_s: float | None, fps: float | None) -> list[str]:
        """`fps`: as asked for, if it was."""
        shares, found = self.details(), []
        if shares["black"] > MAX_BLACK:
            found.append(f"{shares['black']:.0%} of it is black")
        elif shares["frozen"] > MAX_FROZEN:
            found.append(f"{shares['frozen']:.0%} of it stands still")
        measured = self.frames / duration_s if duration_s else None
        if fps and measured and abs(measured - fps) > FPS_TOLERANCE * fps:
            found.append(f"it has {measured:.1f} frames a second, not {fps:g}")
        return found


def _differs(luma: Any, last: Any) -> bool:
    import numpy

    return bool(
        luma.shape != last.shape or numpy.abs(luma.astype(numpy.int16) - last).mean() >= _FROZEN_DELTA
    )


def _luma(frame: Any) -> Any:
    """A coarse copy of the frame's brightness: the first plane, where the format has it, costs no conversion."""
    import numpy

    if not frame.format.name.startswith(("yuv4", "yuvj4", "nv12", "gray")) or "10" in frame.format.name:
        frame = frame.reformat(format="gray")
    plane = frame.planes[0]
    rows = numpy.frombuffer(plane, dtype=numpy.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height : _STEP, : frame.width : _STEP].copy()

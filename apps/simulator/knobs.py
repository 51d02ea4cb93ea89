"""Everything a test may turn while the simulator runs, with its starting values."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from apps.simulator import faults

Drawing = Literal["full", "tiny"]


@dataclass
class Knobs:
    """`POST /admin/settings` sets any of these by name.

    time_scale: factor on every generation time; 0 answers the submit with the finished task.
    tail: share of generations that take ten times as long.
    drawing: "tiny" delivers a 64x64 PNG, so that a benchmark does not measure the drawing.
    concurrency: generations at once; the rest wait in a queue.
    batch_at_once: orders of one batch that are made at once; a cancel stops those that have not begun.
    dead: the protocols ("wavespeed", …) whose every request, pings too, is reset or answered 500.
    error_rates: by part of a protocol's or a model's name, the share of submits that a fault of `error_mix` strikes.
    prices: USD by a part of the model's name: for an image, a second of video, 1,000 characters of speech.
    """

    time_scale: float = 1.0
    tail: float = 0.0
    drawing: Drawing = "full"
    concurrency: int = 100
    batch_at_once: int = 100
    sync_timeout_s: float = 60.0
    hang_s: float = 60.0
    webhook_timeout_s: float = 10.0
    webhook_retry_delays_s: list[float] = field(default_factory=lambda: [0.5, 2.0, 5.0, 15.0])
    dead: list[str] = field(default_factory=list)
    error_rates: dict[str, float] = field(default_factory=dict)
    error_mix: list[str] = field(
        default_factory=lambda: ["500", "503", "429=1", "failed", "truncated", "reset", "accept-reset"]
    )
    prices: dict[str, str] = field(
        default_factory=lambda: {
            "fast-draft": "0.005",
            "standard": "0.025",
            "premium": "0.08",
            # What the providers' own lists say of what a catalog buys there.
            "schnell": "0.003",
            "pro-ultra": "0.06",
            "ultra": "0.08",
            "core": "0.03",
            "sd3.5-large": "0.065",
            "flash": "0.05",
            "multilingual": "0.10",
            "tts-1": "0.015",
            "video": "0.05",
            "audio": "0.03",
            "image": "0.025",
        }
    )

    def set(self, changes: dict[str, Any]) -> None:
        """Raises ValueError, and changes nothing, if a name is unknown or a value has the wrong type."""
        for name, value in changes.items():
            self._check(name, value)
        for name, value in changes.items():
            setattr(self, name, {**self.prices, **value} if name == "prices" else value)

    def _check(self, name: str, value: Any) -> None:
        if name not in {known.name for known in fields(self)}:
            raise ValueError(f"unknown setting: {name}")
        wanted = type(getattr(self, name))
        # JSON has one kind of number, and Python takes True for 1.
        if isinstance(value, bool) or not isinstance(value, (int, float) if wanted is float else wanted):
            raise ValueError(f"{name}: expected {wanted.__name__}")
        if name == "drawing" and value not in ("full", "tiny"):
            raise ValueError('drawing: "full" or "tiny"')
        if isinstance(value, dict) and name == "error_rates" and not all(map(_is_share, value.values())):
            raise ValueError("error_rates: numbers from 0 to 1")
        if isinstance(value, list) and name == "error_mix":
            for spec in value:
                faults.parse(str(spec))
        if (isinstance(value, int | float) and value < 0) or (
            name in ("concurrency", "batch_at_once") and value < 1
        ):
            raise ValueError(f"{name}: out of range")


def _is_share(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= 1

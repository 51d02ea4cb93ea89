"""What a check says, and what it is asked about."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from apps.validation.checks.stills import Stills

Status = Literal["passed", "failed", "skipped", "error"]


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What decoding found: pixels, seconds. None where the kind has no such thing."""

    width: int | None = None
    height: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Standard:
    """What an output has to reach. Thresholds are scores, 0 to 1, as the checks define them.

    `required`: checks that must have run: one that was skipped fails. `shadow`: checks whose failures are reported
    and refuse nothing.
    """

    # One fault alone, however bad, gives 0.23 to 0.3: by default only a picture with several is refused.
    min_technical: float = 0.2
    min_alignment: float = 0.5
    max_unsafe: float = 0.6
    required: frozenset[str] = frozenset()
    shadow: frozenset[str] = frozenset()


DEFAULT: Final = Standard()


@dataclass(frozen=True, slots=True)
class Subject:
    """A file to check. `kind`: image, video or audio. `media_type`: read from its first bytes.

    `requested`: params of the request. `prompt`: what it is to show.
    """

    path: Path
    kind: str
    media_type: str
    requested: Mapping[str, Any]
    prompt: str = ""
    standard: Standard = DEFAULT
    # What of it is looked at, as soon as it has been decoded.
    stills: Stills = field(default_factory=Stills, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`passed` and `score` (0 to 1) are None when the check was skipped or could not run (`error`).

    `hard`: the failure makes the output useless, so that no further check is made. `shadow`: the failure was only
    noted. `version` changes when scores may. `details["problems"]`: why it failed, for a client's eyes.
    """

    name: str
    status: Status
    passed: bool | None
    score: float | None
    details: Mapping[str, Any] = field(default_factory=dict)
    hard: bool = False
    shadow: bool = False
    duration_ms: int = 0
    version: str = "1"

    @property
    def refuses(self) -> bool:
        return self.status == "failed" and not self.shadow

    @property
    def problems(self) -> str:
        return "; ".join(self.details.get("problems", ()))

    def to_json(self) -> dict[str, Any]:
        # Not `asdict`: it copies all the way down, which takes longer than most of the checks.
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "details": dict(self.details),
        }

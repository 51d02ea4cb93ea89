"""What a check says, and what it is asked about."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["passed", "failed", "skipped", "error"]


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What decoding found: pixels, seconds. None where the kind has no such thing."""

    width: int | None = None
    height: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """A file to check. `kind`: image, video or audio. `media_type`: read from its first bytes.

    `requested`: params of the request.
    """

    path: Path
    kind: str
    media_type: str
    requested: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`passed` and `score` (0 to 1) are None when the check was skipped or could not run (`error`).

    `hard`: a failure refuses the output whatever other checks say. `version` changes when scores may.
    """

    name: str
    status: Status
    passed: bool | None
    score: float | None
    details: Mapping[str, Any] = field(default_factory=dict)
    hard: bool = False
    duration_ms: int = 0
    version: str = "1"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

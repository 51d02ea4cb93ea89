"""Is this file what was asked for? Asked before a result is accepted or charged. Runs in a `cpu` worker."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.validation.checks import decode
from apps.validation.checks.results import CheckResult, MediaInfo, Subject

# Providers round to their own grid, and pictures are cut from multiples of 8 or 16.
SIZE_TOLERANCE = 0.05
DURATION_TOLERANCE = 0.05
DURATION_TOLERANCE_S = 0.25


@dataclass(frozen=True, slots=True)
class Report:
    """`score`: mean over the scored checks, 0 to 1, None if none was. `media` is None if nothing decoded."""

    passed: bool
    score: float | None
    checks: tuple[CheckResult, ...]
    media: MediaInfo | None

    def to_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "score": self.score,
            "coverage": f"{sum(check.score is not None for check in self.checks)} of {len(self.checks)}",
            "checks": [check.to_json() for check in self.checks],
        }


def check(path: Path, *, kind: str, media_type: str, requested: Mapping[str, Any]) -> Report:
    """Checks the local file `path` of `kind` image, video or audio.

    `requested`: `width` and `height` in pixels, `duration_s`, where they were asked for; others are ignored.
    """
    result, media = _technical_quality(Subject(path, kind, media_type, requested))
    return report((result,), media)


def report(checks: tuple[CheckResult, ...], media: MediaInfo | None) -> Report:
    """All in all: no failure, and what was skipped is never counted as perfect."""
    scores = [check.score for check in checks if check.score is not None]
    passed = not any(check.status in ("failed", "error") for check in checks)
    return Report(passed, sum(scores) / len(scores) if scores else None, checks, media)


def _technical_quality(subject: Subject) -> tuple[CheckResult, MediaInfo | None]:
    started = time.perf_counter()
    media, problems = None, []
    try:
        media = decode.decode(subject)
        problems = list(_differences(media, subject.requested))
    except decode.Undecodable as error:
        problems = [str(error)]
    result = CheckResult(
        name=decode.NAME,
        status="failed" if problems else "passed",
        passed=not problems,
        score=0.0 if problems else 1.0,
        details={"problems": problems},
        hard=True,
        duration_ms=round((time.perf_counter() - started) * 1000),
        version=decode.VERSION,
    )
    return result, media


def _differences(media: MediaInfo, requested: Mapping[str, Any]) -> Iterator[str]:
    for side, found in (("width", media.width), ("height", media.height)):
        wanted = requested.get(side)
        if wanted and found is not None and abs(found - wanted) > SIZE_TOLERANCE * wanted:
            yield f"{side} is {found}, not {wanted} pixels"
    wanted_s = requested.get("duration_s")
    if wanted_s and media.duration_s is not None:
        allowed_s = max(DURATION_TOLERANCE_S, DURATION_TOLERANCE * float(wanted_s))
        if abs(media.duration_s - float(wanted_s)) > allowed_s:
            yield f"it lasts {media.duration_s} s, not {wanted_s} s"

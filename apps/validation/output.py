"""Is this file what was asked for? Asked before a result is accepted or charged. Runs in a `cpu` worker."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apps.validation.checks import alignment, legal, safety, technical
from apps.validation.checks.results import DEFAULT, CheckResult, MediaInfo, Standard, Subject

Check = Callable[[Subject], CheckResult]


@dataclass(frozen=True, slots=True)
class Report:
    """`score`: mean over the scored checks, 0 to 1, None if none was. `media` is None if nothing decoded."""

    passed: bool
    score: float | None
    checks: tuple[CheckResult, ...]
    media: MediaInfo | None

    @property
    def coverage(self) -> str:
        """How many of the checks that are made of such a file could be made."""
        return f"{sum(check.status in ('passed', 'failed') for check in self.checks)} of {len(self.checks)}"

    @property
    def look(self) -> dict[str, str]:
        """By what the file is known again: its SHA-256 as it was made, and of a picture its perceptual hash."""
        found = next((check.details for check in self.checks if check.name == legal.NAME), {})
        named = {"made_sha256": found.get("sha256"), "phash": found.get("phash")}
        return {name: value for name, value in named.items() if value}

    def refusal(self) -> CheckResult | None:
        """The check that refuses the output."""
        return next((check for check in self.checks if check.refuses), None)

    def unfinished(self) -> CheckResult | None:
        """A check that could not be made now: to be made again, the output is not bought again for it."""
        return next((check for check in self.checks if check.status == "error"), None)

    def to_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "score": None if self.score is None else round(self.score, 4),
            "coverage": self.coverage,
            "checks": [check.to_json() for check in self.checks],
        }


def check(
    path: Path,
    *,
    kind: str,
    media_type: str,
    requested: Mapping[str, Any],
    prompt: str = "",
    standard: Standard = DEFAULT,
    tolerated: frozenset[str] = frozenset(),
) -> Report:
    """Checks the local file `path` of `kind` image, video or audio, cheapest first; a hard failure ends it, and so does
    a check that could not be made, for it is made again.

    `tolerated`: checks that have been tried for long enough: if they can't be made, and the standard does not require
    them, they are skipped.
    `requested`: `width` and `height` in pixels, `duration_s`, where they were asked for; others are ignored.
    """
    subject = Subject(path, kind, media_type, requested, prompt, standard)
    started = time.perf_counter()
    first, media = technical.check(subject)
    results = [_judged(_timed(first, started), standard)]
    for further in _FURTHER:
        last = results[-1]
        if media is None or last.status == "error" or (last.hard and last.refuses):
            break
        started = time.perf_counter()
        result = _tolerated(further(subject), tolerated - standard.required)
        results.append(_judged(_timed(result, started), standard))
    return make_report(results, media)


def marked(report: Report, path: Path, *, media_type: str) -> tuple[Report, bytes | None]:
    """Marks a file that passed as made by AI: the report that says so, and the content to deliver instead.

    Without content the file could not be marked; then its legal check is unfinished, to be made again.
    """
    from apps.validation.marking import credentials, mark

    try:
        made = mark.mark(path, media_type)
    except (credentials.NotMarked, OSError) as error:
        problems = {"problems": [f"it could not be marked as made by AI: {error}"]}
        return _changed(report, status="error", passed=None, score=None, details=problems), None
    return _changed(report, details={"marking": made.to_json()}), made.content


def _changed(report: Report, *, details: Mapping[str, Any], **changes: Any) -> Report:
    """With these words on the legal check."""
    checks = [
        replace(check, details={**check.details, **details}, **changes) if check.name == legal.NAME else check
        for check in report.checks
    ]
    return make_report(checks, report.media)


# In the order of what they cost: a judge of alignment is paid for.
_FURTHER: Sequence[Check] = (legal.check, safety.check, alignment.check)


def make_report(checks: Sequence[CheckResult], media: MediaInfo | None) -> Report:
    """All in all: no failure, and what was skipped is never counted as perfect."""
    scores = [check.score for check in checks if check.score is not None]
    passed = not any(check.refuses or check.status == "error" for check in checks)
    return Report(passed, sum(scores) / len(scores) if scores else None, tuple(checks), media)


def _timed(result: CheckResult, started: float) -> CheckResult:
    return replace(result, duration_ms=round((time.perf_counter() - started) * 1000))


def _tolerated(result: CheckResult, names: frozenset[str]) -> CheckResult:
    if result.status != "error" or result.name not in names:
        return result
    return replace(result, status="skipped", details={"why": f"given up: {result.problems}"})


def _judged(result: CheckResult, standard: Standard) -> CheckResult:
    """What the standard makes of it: a required check must be made, and in shadow mode a failure is only noted.

    A file that does not decode is refused also in shadow mode: nobody can use it.
    """
    if result.status == "skipped" and result.name in standard.required:
        problem = f"{result.name} is required and could not be made"
        result = replace(
            result, status="failed", passed=False, details={**result.details, "problems": [problem]}
        )
    return replace(
        result, shadow=result.name in standard.shadow and result.status == "failed" and not result.hard
    )

"""Is a delivered picture safe to show? Asked of whoever is there to ask: the moderation service, and nudenet.

Always of outputs too: a harmless prompt can give an unsafe picture. nudenet finds nudity only; it knows no violence,
hate or age, and is no protection of children. Without either the check is skipped, never passed.
"""

import importlib.util
from functools import cache
from typing import Any, Final

from django.conf import settings

from apps.validation import moderation
from apps.validation.checks.results import CheckResult, Subject

NAME: Final = "content_safety"
VERSION: Final = "safety-1"
_EXPOSED: Final = frozenset(
    {
        "FEMALE_GENITALIA_EXPOSED",
        "MALE_GENITALIA_EXPOSED",
        "FEMALE_BREAST_EXPOSED",
        "ANUS_EXPOSED",
        "BUTTOCKS_EXPOSED",
    }
)


def check(subject: Subject) -> CheckResult:
    """`error`: the service could not say; the check is to be made again."""
    if subject.kind != "image":
        return CheckResult(
            NAME, "skipped", None, None, {"why": f"no detector for {subject.kind}"}, version=VERSION
        )
    scores: dict[str, float] = {}
    by: list[str] = []
    flagged: frozenset[str] = frozenset()
    if _has_nudenet():
        scores["nudity"] = _nudity(subject)
        by.append("nudenet")
    if moderation.is_configured():
        try:
            opinion = moderation.of_picture(subject.path.read_bytes(), subject.media_type)
        except moderation.Unavailable as error:
            if settings.MODERATION_REQUIRED:
                details = {"problems": [f"moderation: {error}"]}
                return CheckResult(NAME, "error", None, None, details, version=VERSION)
        else:
            scores |= opinion.scores
            flagged = opinion.flagged
            by.append("moderation")
    if not by:
        return CheckResult(NAME, "skipped", None, None, {"why": "no detector is installed"}, version=VERSION)
    return _conclude(subject, scores, flagged, by)


def _conclude(
    subject: Subject, scores: dict[str, float], flagged: frozenset[str], by: list[str]
) -> CheckResult:
    unsafe = {name for name, score in scores.items() if score >= subject.standard.max_unsafe} | flagged
    details: dict[str, Any] = {"by": by, "scores": {name: round(score, 4) for name, score in scores.items()}}
    score = round(1 - max(scores.values(), default=0.0), 4)
    if unsafe:
        details["problems"] = [f"unsafe: {', '.join(sorted(unsafe))}"]
        return CheckResult(
            NAME, "failed", False, min(score, 0.0) if flagged else score, details, True, version=VERSION
        )
    return CheckResult(NAME, "passed", True, score, details, version=VERSION)


@cache
def _has_nudenet() -> bool:
    return importlib.util.find_spec("nudenet") is not None


@cache
def _detector() -> Any:
    from nudenet import NudeDetector

    return NudeDetector()


def _nudity(subject: Subject) -> float:
    """The surest exposed part, 0 to 1."""
    found = _detector().detect(str(subject.path))
    return max((float(part["score"]) for part in found if part["class"] in _EXPOSED), default=0.0)

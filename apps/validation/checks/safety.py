"""Is a delivered picture or film safe to show? Asked of whoever is there to ask: the moderation service, and NudeNet.

Always of outputs too: a harmless prompt can give an unsafe picture. A film is as unsafe as the worst of its stills.
Without either the check is skipped, never passed; nobody here listens to sound.
"""

import io
from typing import Any, Final

from django.conf import settings

from apps.validation import moderation, nudity
from apps.validation.checks import decode
from apps.validation.checks.results import CheckResult, Subject

NAME: Final = "content_safety"
VERSION: Final = "safety-2"


def check(subject: Subject) -> CheckResult:
    """`error`: the service could not say; the check is to be made again."""
    if subject.kind == "audio":
        return _skipped("no detector for audio")
    scores: dict[str, float] = {}
    by: list[str] = []
    flagged: frozenset[str] = frozenset()
    if nudity.is_installed():
        scores["nudity"] = nudity.score(decode.pictures(subject))
        by.append("nudenet")
    if moderation.is_configured():
        try:
            opinion = _moderated(subject)
        except moderation.Unavailable as error:
            if settings.MODERATION_REQUIRED:
                details = {"problems": [f"moderation: {error}"]}
                return CheckResult(NAME, "error", None, None, details, version=VERSION)
        else:
            scores |= opinion.scores
            flagged = opinion.flagged
            by.append("moderation")
    return _conclude(subject, scores, flagged, by) if by else _skipped("no detector is installed")


def _moderated(subject: Subject) -> moderation.Opinion:
    """The service looks at one picture at a time. Raises Unavailable."""
    if subject.kind == "image":
        return moderation.of_picture(subject.path.read_bytes(), subject.media_type)
    return moderation.worst_of(
        moderation.of_picture(_jpeg(still), "image/jpeg") for still in decode.pictures(subject)
    )


def _jpeg(image: Any) -> bytes:
    content = io.BytesIO()
    image.convert("RGB").save(content, "JPEG", quality=85)
    return content.getvalue()


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


def _skipped(why: str) -> CheckResult:
    return CheckResult(NAME, "skipped", None, None, {"why": why}, version=VERSION)

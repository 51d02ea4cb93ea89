"""Does a picture or film show what its prompt says? Asked of the vision judge, or else of CLIP.

CLIPScore is 2.5 times the cosine, 0 if negative, so 0.75 means a cosine of 0.30, which is good. A film is judged by
stills: the mean of their scores, or by a judge that sees them all. Without either the check is skipped, never passed.
"""

from typing import Any, Final

from apps.validation import clip, judge
from apps.validation.checks import decode
from apps.validation.checks.results import CheckResult, Subject

NAME: Final = "content_alignment"
VERSION: Final = "clipscore-2.5"
_SCALE: Final = 2.5


def check(subject: Subject) -> CheckResult:
    """`error`: the judge could not say; the check is to be made again."""
    if subject.kind == "audio" or not subject.prompt:
        return _skipped(f"not made of {subject.kind}" if subject.prompt else "there is no prompt")
    why = "no model is installed"
    if judge.is_configured():
        try:
            return _judged(subject)
        except judge.Unavailable as error:
            problems = {"problems": [f"the judge: {error}"], "by": "judge"}
            return CheckResult(NAME, "error", None, None, problems, version=judge.name())
        except judge.Spent as error:
            why = str(error)
    return _scored(subject) if clip.is_configured() else _skipped(why)


def _judged(subject: Subject) -> CheckResult:
    said = judge.of(decode.pictures(subject), subject.prompt)
    details = {"by": "judge", "reason": said.reason, "definition": judge.name()}
    return _conclude(subject, round(said.score, 4), details, judge.name())


def _scored(subject: Subject) -> CheckResult:
    pictures = decode.pictures(subject)
    cosine, sha256 = clip.cosine(pictures, subject.prompt)
    score = round(min(1.0, _SCALE * max(cosine, 0.0)), 4)
    details = {"by": "clip", "cosine": round(cosine, 4), "definition": VERSION, "model_sha256": sha256}
    return _conclude(subject, score, {**details, "pictures": len(pictures)}, VERSION)


def _conclude(subject: Subject, score: float, details: dict[str, Any], version: str) -> CheckResult:
    least = subject.standard.min_alignment
    if score >= least:
        return CheckResult(NAME, "passed", True, score, details, version=version)
    problems = [f"it does not show the prompt: {score:.2f}, below {least:.2f}"]
    return CheckResult(NAME, "failed", False, score, {**details, "problems": problems}, version=version)


def _skipped(why: str) -> CheckResult:
    return CheckResult(NAME, "skipped", None, None, {"why": why}, version=VERSION)

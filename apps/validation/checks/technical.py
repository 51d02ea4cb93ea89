"""Technical quality: it decodes to its end, is what was asked for, and is not visibly or audibly broken."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from apps.validation.checks import decode, picture
from apps.validation.checks.film import Film
from apps.validation.checks.results import CheckResult, MediaInfo, Subject
from apps.validation.checks.sound import Sound

NAME: Final = "technical_quality"
VERSION: Final = "technical-2"

# Providers round to their own grid, and pictures are cut from multiples of 8 or 16.
SIZE_TOLERANCE = 0.05
DURATION_TOLERANCE = 0.05
DURATION_TOLERANCE_S = 0.25


def check(subject: Subject) -> tuple[CheckResult, MediaInfo | None]:
    """What is found, and the measures of the file if it decodes."""
    try:
        media, scores, found, details = _measured(subject)
    except decode.Undecodable as error:
        return _failed([str(error)], {}), None
    problems = [*_differences(media, subject.requested), *found]
    details = {**details, "scores": {name: round(score, 3) for name, score in scores.items()}}
    if problems:
        return _failed(problems, details), media
    score = round(picture.overall(scores), 4)
    if score < subject.standard.min_technical:
        worst = min(scores, key=lambda name: scores[name])
        why = f"its quality is {score:.2f}, below {subject.standard.min_technical:.2f}: {worst}"
        result = CheckResult(NAME, "failed", False, score, {**details, "problems": [why]}, version=VERSION)
        return result, media
    return CheckResult(NAME, "passed", True, score, {**details, "problems": []}, version=VERSION), media


def _failed(problems: list[str], details: Mapping[str, Any]) -> CheckResult:
    shown = {**details, "problems": problems}
    return CheckResult(NAME, "failed", False, 0.0, shown, hard=True, version=VERSION)


_Measured = tuple[MediaInfo, dict[str, float], list[str], dict[str, Any]]


def _measured(subject: Subject) -> _Measured:
    """The file's measures, its scores, what makes it useless, and what is worth telling."""
    if subject.kind == "image":
        with decode.picture(subject.path, subject.media_type) as image:
            subject.stills.picture(image)
            scores = picture.measure(image)
            bad = [f"there is nothing to see: {name}" for name in _hard(scores)]
            return MediaInfo(*image.size), scores, bad, {}
    if subject.kind == "video":
        film = Film()
        media = decode.recording(subject, film, subject.stills)
        problems = film.problems(duration_s=media.duration_s, fps=subject.requested.get("fps"))
        return media, film.scores(), problems, film.details()
    sound = Sound()
    media = decode.recording(subject, sound)
    return media, sound.scores(), sound.problems(), sound.details()


def _hard(scores: Mapping[str, float]) -> list[str]:
    return [name for name, score in scores.items() if name in picture.HARD and score == 0]


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

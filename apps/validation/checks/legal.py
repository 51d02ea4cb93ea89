"""Policy compliance of a finished file: it is not on the takedown list. Its mark is added once it is accepted."""

import hashlib
from typing import Any, Final

from apps.validation import takedowns
from apps.validation.checks import decode
from apps.validation.checks.results import CheckResult, Subject

NAME: Final = "legal_compliance"
VERSION: Final = "takedown-1"


def check(subject: Subject) -> CheckResult:
    """`details["phash"]`: of a picture, for a later takedown of all that look like it."""
    digest = hashlib.sha256(subject.path.read_bytes()).hexdigest()
    details: dict[str, Any] = {"sha256": digest}
    image = None
    if subject.kind == "image":
        (image,) = decode.pictures(subject)
        details["phash"] = takedowns.text(takedowns.phash(image))
    if reason := takedowns.find(digest, image):
        problems = [f"it was taken down: {reason}"]
        return CheckResult(
            NAME, "failed", False, 0.0, {**details, "problems": problems}, hard=True, version=VERSION
        )
    return CheckResult(NAME, "passed", True, 1.0, details, version=VERSION)

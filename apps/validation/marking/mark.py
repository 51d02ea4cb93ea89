"""Marks a file that is about to be delivered, and looks whether the mark holds."""

from dataclasses import dataclass
from pathlib import Path

from apps.validation.marking import credentials, xmp


@dataclass(frozen=True, slots=True)
class Marked:
    """`content`: the file to deliver. `credentials`: `valid`, or `unsupported` by its format; `xmp`: is it in?"""

    content: bytes
    credentials: str
    xmp: bool

    def to_json(self) -> dict[str, str | bool]:
        return {"c2pa": self.credentials, "xmp": self.xmp}


def mark(path: Path, media_type: str) -> Marked:
    """Raises credentials.NotMarked if the mark can't be made, or does not hold.

    A file that comes with valid credentials of a model's maker stays as it is: ours would end theirs. So does one that
    was marked before.
    """
    content = path.read_bytes()
    if media_type not in credentials.MEDIA_TYPES:
        return Marked(content, "unsupported", xmp.is_in(content, media_type))
    if credentials.state(content, media_type) != "valid":
        try:
            content = credentials.sign(xmp.add(content, media_type), media_type)
        except ValueError as error:
            raise credentials.NotMarked(str(error)) from error
        if (state := credentials.state(content, media_type)) != "valid":
            raise credentials.NotMarked(f"the mark is {state}")
    return Marked(content, "valid", xmp.is_in(content, media_type))

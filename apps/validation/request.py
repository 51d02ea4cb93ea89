"""Checks of a request that need no network, before any money is held."""

import re
import unicodedata
from typing import Final

from apps.core.errors import InvalidRequest

MAX_PROMPT_CHARACTERS: Final = 10_000
# No writing system stacks more marks on one base character; "Zalgo" text has dozens.
MAX_MARKS_IN_A_ROW: Final = 8

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# What changes the direction of writing, and what ends that.
_BIDI_ENDS = {
    **dict.fromkeys("\u202a\u202b\u202d\u202e", "\u202c"),
    **dict.fromkeys("\u2066\u2067\u2068", "\u2069"),
}
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def normalise(prompt: str) -> str:
    """The prompt in NFC with CR LF as LF and no white space around it. Raises InvalidRequest for `prompt`.

    NFC only: the compatibility forms of NFKC (ﬁ → fi, ² → 2) would change what was written.
    """
    # Before normalising, whose time grows with the square of a run of marks.
    _refuse_if(
        len(prompt) > MAX_PROMPT_CHARACTERS, f"has more than {MAX_PROMPT_CHARACTERS} characters", "too_long"
    )
    text = prompt.replace("\r\n", "\n")
    _refuse_if(_CONTROL.search(text), "contains control characters", "control_characters")
    _refuse_if(_SURROGATE.search(text), "is not valid Unicode", "invalid_unicode")
    _refuse_if(_leaves_bidi_open(text), "leaves a change of writing direction open", "bidi")
    _refuse_if(_piles_marks(text), "stacks too many combining marks", "combining_marks")
    _refuse_if(_is_blank(text), "is blank", "blank")
    return unicodedata.normalize("NFC", text).strip()


def _refuse_if(bad: object, message: str, code: str) -> None:
    if bad:
        raise InvalidRequest.field("prompt", message, code)


def _piles_marks(text: str) -> bool:
    if text.isascii():
        return False
    in_a_row = 0
    for character in text:
        in_a_row = in_a_row + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if in_a_row > MAX_MARKS_IN_A_ROW:
            return True
    return False


def _leaves_bidi_open(text: str) -> bool:
    """Whether an embedding, override or isolate (UAX #9) lacks its end: it would also turn what is shown after it."""
    if text.isascii():
        return False
    open_pairs = {"\u202c": 0, "\u2069": 0}
    for character in text:
        if end := _BIDI_ENDS.get(character):
            open_pairs[end] += 1
        elif open_pairs.get(character):
            open_pairs[character] -= 1
    return any(open_pairs.values())


def _is_blank(text: str) -> bool:
    """Nothing to see: spaces, format characters such as zero-width ones, marks without a base."""
    if text.isascii():
        return not text.strip()
    return all(character.isspace() or unicodedata.category(character)[0] in "CM" for character in text)

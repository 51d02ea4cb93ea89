"""A prompt as words. What is not plain English prose or tags gives None: it is then left as it is."""

import re
import unicodedata
from itertools import pairwise

from apps.caching.canonical.lexicon import lexicon

Words = list[str]

# A quotation is one word, its case kept: it is text to be written in the picture.
QUOTED = re.compile(r"\"([^\"]+)\"|(?<!\w)'([^']+)'(?!\w)")
_WORD = re.compile(r"\x00\d+\x00|\d+(?:[.,]\d+)*(?:[^\W\d_]+)?|[^\W\d_]+(?:['-][^\W_]+)*|[,.;!?&]")
_PLAIN = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿ0-9\s,.;!?&'\"-]*")
_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "–": "-", "—": "-"})
END, COMMA, AND = ".", ",", "and"
_TENS = range(20, 100, 10)


def straight(prompt: str) -> str:
    """NFKC, whitespace collapsed, one kind of quotation marks."""
    return " ".join(unicodedata.normalize("NFKC", prompt).translate(_QUOTES).split())


def split(text: str, *, case_sensitive: bool) -> Words | None:
    """The words of `straight` text, lower-cased if the model ignores case. None: not for us.

    Foreign scripts and languages, weights like (cat:1.3), flags like --ar and any other syntax are not for us.
    """
    quotations: Words = []

    def keep(match: re.Match[str]) -> str:
        quotations.append(f'"{match[1] or match[2]}"')
        return f" \x00{len(quotations) - 1}\x00 "

    bare = QUOTED.sub(keep, text)
    visible = re.sub(r"\x00\d+\x00", "", bare)
    if (
        not _PLAIN.fullmatch(visible)
        or '"' in visible
        or "--" in visible
        or " -" in visible
        or "- " in visible
    ):
        return None
    words = _WORD.findall(bare)
    if "".join(words) != re.sub(r"\s", "", bare):
        return None
    if _is_foreign(words):
        return None
    shouted = visible.isupper()
    return [
        quotations[int(word.strip("\x00"))] if "\x00" in word else _cased(word, case_sensitive, shouted)
        for word in words
    ]


def _cased(word: str, case_sensitive: bool, shouted: bool) -> str:
    """ "US" and "IT" are no function words, and stay as they are written."""
    lower = word.lower()
    known = lexicon()
    if lower in known.articles or lower in known.auxiliaries or lower in known.prepositions:
        return word if len(word) > 1 and word.isupper() and not shouted else lower
    return word if case_sensitive else lower


def _is_foreign(words: Words) -> bool:
    known = lexicon()
    low = [word.lower() for word in words]
    foreign = sum(word in known.foreign for word in low)
    english = sum(word in known.articles or word in known.prepositions or word == AND for word in low)
    return foreign > english


def numbered(words: Words) -> Words:
    """Number words as digits: `twenty one` and `twenty-one` are 21."""
    numbers = lexicon().numbers
    found: Words = []
    for word in words:
        tens, dash, unit = word.lower().partition("-")
        if dash and numbers.get(tens) in _TENS and 1 <= numbers.get(unit, 0) <= 9:
            found.append(str(numbers[tens] + numbers[unit]))
        else:
            found.append(str(numbers[word.lower()]) if word.lower() in numbers else word)
    return _joined_tens(words, found)


def _joined_tens(words: Words, found: Words) -> Words:
    """`twenty one`, written as two words, is one number; `20 1` is two."""
    numbers = lexicon().numbers
    joins = {
        index
        for index, (one, two) in enumerate(pairwise(words))
        if numbers.get(one.lower()) in _TENS and 1 <= numbers.get(two.lower(), 0) <= 9
    }
    return [
        str(int(word) + int(found[index + 1])) if index in joins else word
        for index, word in enumerate(found)
        if index - 1 not in joins
    ]

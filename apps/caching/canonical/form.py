"""The canonical form of a prompt: one text for all the wordings that certainly draw the same picture.

Pure, microseconds, no model. Each rule is narrow and speaks of a whole prompt or of single words; whatever a rule
does not fully understand is left as it is, which costs a hit and never a wrong one. Rewordings that need judgement
belong to tier 3.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby

from apps.caching.canonical.lexicon import Phrase, lexicon
from apps.caching.canonical.words import AND, COMMA, END, Words, numbered, split, straight

# Raised with every change of a rule or of the lexicon: keys of another version never meet.
VERSION = 1

_STOPS = frozenset({".", ";", "!", "?"})
_PARTICIPLE = ("ing", "ed", "en", "wn")


@lru_cache(maxsize=256)
def of(prompt: str, *, kind: str = "image", case_sensitive: bool = False) -> str:
    """The canonical form; the prompt itself, marked as such, where we can't say more.

    For audio that is always: there the words are what is to be heard. Remembered for what is asked for again and again.
    """
    text = straight(prompt)
    words = split(text, case_sensitive=case_sensitive) if kind != "audio" else None
    if not words:
        return "=" + (text if case_sensitive else text.lower())
    sentences = [list(group) for stop, group in groupby(words, key=_STOPS.__contains__) if not stop]
    if not sentences:
        return "=" + text
    sentences[0] = unwrapped(sentences[0])
    plain = [_plain(sentence) for sentence in sentences]
    if len(plain) == 1:
        return _arranged(plain[0])
    return f" {END} ".join(" ".join(sentence) for sentence in plain)


def negative(prompt: str, *, case_sensitive: bool = False) -> str:
    """The canonical form of a negative prompt: a set of tags where it is one, else as written."""
    text = straight(prompt)
    words = split(text, case_sensitive=case_sensitive)
    if not words or any(word in _STOPS for word in words):
        return "=" + (text if case_sensitive else text.lower())
    return " , ".join(sorted({" ".join(tag) for tag in _segments(_plain(words))}))


# --- Words -------------------------------------------------------------------------------------


def unwrapped(words: Words) -> Words:
    """Without asking for a picture: "please draw", "an image of". Never without a style: "a photo of" stays."""
    known = lexicon()
    rest = _without_request(words)
    start = 1 if rest[0] in known.articles else 0
    if tuple(rest[start : start + 2]) in known.wrappers and len(rest) > start + 2:
        rest = rest[start + 2 :]
    return rest


def _without_request(words: Words) -> Words:
    """A request is followed by what is asked for: an article, a number, a wrapper. "show jumping" is none."""
    known = lexicon()
    rest, polite = words, False
    while True:
        length = next((size for size in (4, 3, 2, 1) if tuple(rest[:size]) in known.requests), 0)
        left = rest[length:]
        if not length or not left:
            return rest
        asks = rest[length - 1] in ("please", "me", "to", "you")
        named = left[0] in known.articles or left[0].isdigit() or left[0] in known.numbers
        if not (asks or polite or named or tuple(left[:2]) in known.wrappers):
            return rest
        rest, polite = left, polite or asks


def _plain(words: Words) -> Words:
    """Without articles and auxiliaries; numbers as digits, spellings as one, relations as one word."""
    known = lexicon()
    words = [AND if word == "&" else word for word in words]
    if words[:2] in (["there", "is"], ["there", "are"]):
        words = words[2:]
    words = _without_articles(words)
    words = numbered(_without_auxiliaries(words))
    words = [known.lemmas.get(word, word) for word in words]
    return _related(_listed(words))


def _without_articles(words: Words) -> Words:
    """An article before a stop or at the end is a letter: "vitamin A", "plan A"."""
    known = lexicon()
    return [
        word
        for index, word in enumerate(words)
        if word not in known.articles or index + 1 == len(words) or words[index + 1] in (COMMA, AND)
    ]


def _without_auxiliaries(words: Words) -> Words:
    """`a man (who is) holding`. After an `and` or a comma, `is` or `are` tells whom a clause speaks of: it stays."""
    known = lexicon()
    kept: Words = []
    for index, word in enumerate(words):
        after = words[index + 1] if index + 1 < len(words) else ""
        describes = after.endswith(_PARTICIPLE) or after in known.prepositions
        negated = after in ("not", "no")
        if word in known.auxiliaries and describes and not negated:
            if not kept or kept[-1] not in known.pronouns:
                continue
            if AND not in kept and COMMA not in kept:
                kept.pop()
                continue
        kept.append(word)
    return kept


def _listed(words: Words) -> Words:
    """`a, b, and c` as `a, b and c`; no comma at either end."""
    kept: Words = []
    for word in words:
        if word in (AND, COMMA) and kept and kept[-1] == COMMA:
            kept.pop()
        kept.append(word)
    while kept and kept[-1] == COMMA:
        kept.pop()
    return kept[1:] if kept[:1] == [COMMA] else kept


def _related(words: Words) -> Words:
    """Every spelling of a relation as its one name: `on the left side of`, `to the left of` → `<left>`."""
    known = lexicon()
    relations, relating = known.relations, known.relating
    if relating.isdisjoint(words):
        return words
    kept: Words = []
    index = 0
    while index < len(words):
        for size in (4, 3, 2, 1) if words[index] in relating else ():
            name = relations.get(tuple(words[index : index + size]))
            if name and index + size <= len(words):
                kept.append(f"<{name}>")
                index += size
                break
        else:
            kept.append(words[index])
            index += 1
    return kept


# --- Order -------------------------------------------------------------------------------------


def _arranged(words: Words) -> str:
    """The first rule of order that fits the whole prompt; else the words as they come."""
    for rule in (_conjunction, _style, _time, _relation, _tags):
        found = rule(words)
        if found is not None:
            return found
    return " ".join(words)


def _conjunction(words: Words) -> str | None:
    """`a red cat and a blue dog` = `a blue dog and a red cat`: all of it is one list, each part its own noun phrase.

    All parts are single words or none is: in `old men and women`, `old` may speak of both.
    """
    if AND not in words:
        return None
    parts = _split_at(words, (COMMA, AND))
    joints = [word for word in words if word in (COMMA, AND)]
    uniform = all(joint == AND for joint in joints) or joints == [COMMA] * (len(joints) - 1) + [AND]
    alone = sum(len(part) == 1 for part in parts)
    if not uniform or not all(map(_is_simple, parts)) or alone not in (0, len(parts)):
        return None
    return f" {AND} ".join(sorted(map(" ".join, parts)))


def _style(words: Words) -> str | None:
    """`oil painting of a cat` = `a cat, oil painting` = `oil painting, a cat`."""
    styles = lexicon().styles
    segments = _segments(words)
    if len(segments) == 2:
        (first, second) = segments
        if tuple(second) in styles and _is_simple(first):
            return _tagged(first, [second])
        if tuple(first) in styles and _is_simple(second):
            return _tagged(second, [first])
    for size in (1, 2):
        if (
            tuple(words[:size]) in styles
            and words[size : size + 1] == ["of"]
            and _is_simple(words[size + 1 :])
        ):
            return _tagged(words[size + 1 :], [words[:size]])
    return None


def _time(words: Words) -> str | None:
    """`sunset over the ocean` = `the ocean at sunset`."""
    times = lexicon().times
    if words[0] in times and words[1:2] == ["<over>"] and _is_simple(words[2:]):
        return f"{' '.join(words[2:])} at {words[0]}"
    return None


def _relation(words: Words) -> str | None:
    """`A left of B` = `B right of A`, where there is nothing else."""
    known = lexicon()
    at = next((index for index, word in enumerate(words) if word.startswith("<")), 0)
    left, right = words[:at], words[at + 1 :]
    if not (_is_simple(left) and _is_simple(right)):
        return None
    name = words[at].strip("<>")
    if name in known.converses:
        return f"{' '.join(right)} <{known.converses[name]}> {' '.join(left)}"
    if name in known.symmetric:
        return f" <{name}> ".join(sorted((" ".join(left), " ".join(right))))
    return None


def _tags(words: Words) -> str | None:
    """A subject and tags that speak of the whole picture: their order says nothing."""
    heads = lexicon().whole_picture_heads
    segments = _segments(words)
    subjects = [part for part in segments if part[-1] not in heads or len(part) > 3]
    if len(segments) < 3 or len(subjects) != 1 or segments[0] != subjects[0]:
        return None
    return _tagged(subjects[0], segments[1:])


def _tagged(subject: Words, tags: Iterable[Words]) -> str:
    return f" {COMMA} ".join([" ".join(subject), *sorted(map(" ".join, tags))])


def _is_simple(phrase: Sequence[str]) -> bool:
    """One noun phrase as far as words can tell: nothing in it that relates, lists, orders or quotes."""
    known = lexicon()
    if len(phrase) > 3 and phrase[-2] == "of" and phrase[-3] in known.measures:
        phrase = [*phrase[:-2], phrase[-1]]
    return bool(phrase) and not any(
        word in known.prepositions
        or word in known.ordered
        or word in known.articles
        or word in (AND, COMMA)
        or word[0] in '<"'
        or (word.endswith("ing") and word not in known.nouns_in_ing)
        for word in phrase
    )


def _segments(words: Words) -> list[Words]:
    return _split_at(words, (COMMA,))


def _split_at(words: Words, joints: Phrase) -> list[Words]:
    parts: list[Words] = [[]]
    for word in words:
        if word in joints:
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]

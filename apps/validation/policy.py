"""The operator's words about a prompt, decided before money is spent: block, review or let pass.

One pass of Aho-Corasick over the prompt, whatever the number of words; prompt and words are folded the same way, so
that case, compatibility forms, invisible characters and letters that only look alike (Unicode TR 39) hide nothing. A
policy, not a legal guarantee, and no substitute for a moderation model: it knows words, not meanings.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import ahocorasick

from apps.core.errors import DomainError
from apps.core.remembered import Remembered
from apps.validation.models import PolicyList

# Cyrillic and Greek letters that look like Latin ones, lower case: the usual disguise.
_LOOK_ALIKES: Final = str.maketrans(
    "авекмнорстухіјѕԁԛԝһӏαβεηικνορτυχγω",
    "abekmhopctyxijsdqwhlabenikvoptuxyw",
)
_GAPS = re.compile(r"[^\w]+|_+")
# Written without spaces between words: a word there has no border to look for.
_SPACELESS = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


class ContentRejected(DomainError):
    """`categories`: of the operator's policy, or of the moderation that refused."""

    code: ClassVar[str] = "content_rejected"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "The content is not allowed"


@dataclass(frozen=True, slots=True)
class Finding:
    """A word of a list that is in the prompt. For ops: a client is told the category alone."""

    term: str
    list_name: str
    kind: str
    version: int
    category: str
    action: str

    def to_json(self) -> dict[str, Any]:
        return {
            "term": self.term,
            "list": self.list_name,
            "kind": self.kind,
            "version": self.version,
            "category": self.category,
        }


def admit(prompt: str) -> tuple[Finding, ...]:
    """What ops has to look at before the prompt is used; nothing, as a rule. Raises ContentRejected."""
    found = find(prompt)
    if blocked := [finding for finding in found if finding.action == PolicyList.Action.BLOCK]:
        categories = sorted({finding.category for finding in blocked})
        raise ContentRejected("The prompt names what is not allowed here.", categories=categories)
    return found


def find(prompt: str) -> tuple[Finding, ...]:
    """Every listed word in the prompt that no allowed phrase covers, each once."""
    automaton = _automaton()
    if automaton is None:
        return ()
    matches = list(_matches(automaton, f" {fold(prompt)} "))
    allowed = [span for span, finding in matches if finding.action == PolicyList.Action.ALLOW]
    found = (
        finding
        for (start, end), finding in matches
        if finding.action != PolicyList.Action.ALLOW
        and not any(begin <= start and end <= stop for begin, stop in allowed)
    )
    return tuple(dict.fromkeys(found))


def fold(text: str) -> str:
    """What of a text is compared: words of plain letters, one space between them."""
    visible = "".join(
        character
        for character in unicodedata.normalize("NFKD", text)
        if unicodedata.category(character) not in ("Cf", "Mn", "Me")
    )
    plain = unicodedata.normalize("NFKC", visible).casefold().translate(_LOOK_ALIKES)
    return _GAPS.sub(" ", plain).strip()


def _matches(automaton: Any, text: str) -> Iterator[tuple[tuple[int, int], Finding]]:
    for last, (word, findings) in automaton.iter(text):
        start, end = last - len(word) + 1, last + 1
        if _stands_alone(text, start, end):
            for finding in findings:
                yield (start, end), finding


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Between spaces. `text` begins and ends with one."""
    return all(
        outside == " " or _SPACELESS.match(inside)
        for outside, inside in ((text[start - 1], text[start]), (text[end], text[end - 1]))
    )


def _build() -> Any:
    """The automaton of all active lists; None without words."""
    words: dict[str, list[Finding]] = {}
    for row in PolicyList.objects.filter(active=True).order_by("name"):
        for term in filter(None, map(str.strip, row.terms.splitlines())):
            if folded := fold(term):
                finding = Finding(term, row.name, row.kind, row.version, row.category, row.action)
                words.setdefault(folded, []).append(finding)
    if not words:
        return None
    automaton = ahocorasick.Automaton()
    for word, findings in words.items():
        automaton.add_word(word, (word, tuple(findings)))
    automaton.make_automaton()
    return automaton


_Built = tuple[tuple[tuple[Any, int], ...], Any]
_built: _Built = ((), None)


def _read() -> Any:
    """Built anew only if a list has changed: looking at the versions is one small query."""
    global _built
    active = PolicyList.objects.filter(active=True).order_by("pk")
    versions = tuple(active.values_list("pk", "version"))
    if versions != _built[0]:
        _built = versions, _build()
    return _built[1]


_automaton = Remembered(_read)
forget = _automaton.forget

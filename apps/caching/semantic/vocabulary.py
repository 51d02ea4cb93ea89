"""The words that reading knows: the tables of words.toml, and what a word may be an inflection of."""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

Role = Literal["word", "verb", "relation", "join", "stop", "number", "negation", "quote", "bland"]

_FILE = Path(__file__).with_name("words.toml")
_VOWELS = "aeiou"


@cache
def words() -> Mapping[str, Any]:
    """The tables, with phrases resolved to what they stand for."""
    data = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    phrases: dict[tuple[str, ...], tuple[Role, str]] = {}
    for name in ("relations", "joins", "numbers", "quantities"):
        role: Role = {"relations": "relation", "joins": "join"}.get(name, "number")  # type: ignore[assignment]  # a literal of the table
        for phrase, key in data[name].items():
            phrases[tuple(phrase.split())] = (role, str(key))
    for phrase in data["collectives"]["phrases"]:
        phrases[tuple(phrase.split())] = ("bland", "of many")
    openings = {tuple(phrase.split()): ("bland", "opening") for phrase in data["openings"]["phrases"]}
    synonyms: dict[str, set[str]] = {}
    for number, group in enumerate(data["synonyms"]["groups"]):
        for word in group.split():
            synonyms.setdefault(word, set()).add(f"~{number}")
    return {
        "lists": {
            name: frozenset(found) if found and isinstance(found[0], str) else found
            for name, found in data["lists"].items()
        },
        "openings": openings,
        "plain_s": frozenset(data["plain_s"]["words"]),
        "phrases": phrases,
        "prepositional": frozenset(phrase[0] for phrase, (role, _) in phrases.items() if role == "relation")
        | {"to", "up", "down"},
        "synonyms": synonyms,
        "irregular": data["irregular"],
        "bland": frozenset(data["bland"]) | frozenset(data["vague"]),
        "vague": frozenset(data["vague"]),
        "negations": frozenset(data["negations"]),
        "postures": [frozenset(group) for group in data["posture"]],
        "verbs": frozenset(data["lists"]["verbs"]),
        "nouns_in_ing": frozenset(data["lists"]["nouns_in_ing"]),
    }


def lists() -> Mapping[str, Any]:
    """The lists of relations: which are strong, alike, each other's converse."""
    table: Mapping[str, Any] = words()["lists"]
    return table


@cache
def irregular() -> Mapping[str, str]:
    table: Mapping[str, str] = words()["irregular"]
    return table


def bases(word: str) -> set[str]:
    """What the word may be a regular inflection of, itself included."""
    found = {word}
    if word in irregular():
        found.add(irregular()[word])
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        found.add(word[:-1])
        if word.endswith("ies"):
            found.add(word[:-3] + "y")
        if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
            found.add(word[:-2])
    for suffix in ("ing", "ed"):
        if word.endswith(suffix) and len(word) > len(suffix) + 2:
            found |= _unsuffixed(word[: -len(suffix)])
    if word.endswith("ied"):
        found.add(word[:-3] + "y")
    if word.endswith("ly") and len(word) > 5:
        # `idly` → idle; `heavily` → heavy; `oddly` → odd.
        found |= {word[:-2], word[:-1] + "e"} | ({word[:-3] + "y"} if word.endswith("ily") else set())
    return found


def _unsuffixed(stem: str) -> set[str]:
    """`runn` → run; `rid` → ride; `jump` → jump. One consonant after one short vowel would be doubled: no `hat` of
    `hating`."""
    if not any(letter in _VOWELS + "y" for letter in stem):
        return set()
    if len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in _VOWELS:
        return {stem, stem[:-1]}
    short = len(stem) >= 2 and stem[-1] not in _VOWELS + "wxy" and stem[-2] in _VOWELS
    double_vowel = len(stem) >= 3 and stem[-3] in _VOWELS
    syllables = len(re.findall(r"[aeiouy]+", stem))
    if short and not double_vowel and syllables == 1:
        return {stem + "e"}
    return {stem, stem + "e"}

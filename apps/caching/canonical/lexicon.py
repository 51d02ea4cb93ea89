"""The words of the canonicaliser, read once from `lexicon.toml` beside this file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("lexicon.toml")

Phrase = tuple[str, ...]


@dataclass(frozen=True)
class Lexicon:
    """Phrases are tuples of words without articles; relations are named as in the file."""

    articles: frozenset[str]
    auxiliaries: frozenset[str]
    pronouns: frozenset[str]
    prepositions: frozenset[str]
    ordered: frozenset[str]
    measures: frozenset[str]
    nouns_in_ing: frozenset[str]
    wrappers: frozenset[Phrase]
    requests: frozenset[Phrase]
    whole_picture_heads: frozenset[str]
    styles: frozenset[Phrase]
    times: frozenset[str]
    foreign: frozenset[str]
    lemmas: Mapping[str, str]
    numbers: Mapping[str, int]
    relations: Mapping[Phrase, str]
    converses: Mapping[str, str]
    symmetric: frozenset[str]

    @cached_property
    def relating(self) -> frozenset[str]:
        """The words that a relation may begin with."""
        return frozenset(phrase[0] for phrase in self.relations)


def _phrases(words: list[str]) -> frozenset[Phrase]:
    return frozenset(tuple(each.split()) for each in words)


@cache
def lexicon() -> Lexicon:
    """The words, checked when the file is tested; nothing here depends on anything else of ours."""
    data: dict[str, Any] = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return Lexicon(
        articles=frozenset(data["articles"]),
        auxiliaries=frozenset(data["auxiliaries"]),
        pronouns=frozenset(data["pronouns"]),
        prepositions=frozenset(data["prepositions"]),
        ordered=frozenset(data["ordered"]),
        measures=frozenset(data["measures"]),
        nouns_in_ing=frozenset(data["nouns_in_ing"]),
        wrappers=_phrases(data["wrappers"]),
        requests=_phrases(data["requests"]),
        whole_picture_heads=frozenset(data["whole_picture_heads"]),
        styles=_phrases(data["styles"]),
        times=frozenset(data["times"]),
        foreign=frozenset(data["foreign"]),
        lemmas=data["lemmas"],
        numbers=data["numbers"],
        relations={
            tuple(words.split()): name for name, group in data["relations"].items() for words in group
        },
        # The lesser-named side of each pair is rewritten into the other.
        converses={other: name for name, other in data["converses"].items()},
        symmetric=frozenset(data["symmetric"]["words"]),
    )

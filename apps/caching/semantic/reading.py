"""A prompt as far as words tell its structure: chunks (noun phrases), what connects them, and what may not change."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile

from apps.caching.canonical import words as canonical_words
from apps.caching.semantic import vocabulary
from apps.caching.semantic.tokens import (
    COPULAS,
    Keys,
    Token,
    is_noun,
    is_participle,
    place_of_by,
    points_back,
    tokens_of,
)

# Relations that stand alone, too.
_ADVERBIAL = {"outside", "out", "around", "down", "away", "off"}


@dataclass(frozen=True, slots=True)
class Connector:
    """A relation or a verb, and the words that may be its two sides: who, and whom or where.

    `nearest`: those of the left side that stand next to it, which it speaks of unless it speaks of one further off.
    """

    token: Token
    left: Keys
    right: Keys
    nearest: Keys


@dataclass(frozen=True, slots=True)
class Bond:
    """A word and those it may belong to; `inside`: it stands in one noun phrase with them."""

    token: Token
    mates: Keys
    inside: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What a prompt says, as far as we read it. `bonds`: what each content word may belong to."""

    tokens: tuple[Token, ...]
    content: tuple[Token, ...]
    connectors: tuple[Connector, ...]
    bonds: tuple[Bond, ...]
    # For each content word: the number of its phrase, where `a cat and a dog` is one.
    phrases: tuple[int, ...]
    heads: tuple[str, ...]
    numbers: tuple[str, ...]
    negations: int
    quotes: tuple[str, ...]
    names: Keys
    postures: frozenset[int] = field(default_factory=frozenset)


def read(prompt: str) -> Reading:
    """Pure; about a tenth of a millisecond."""
    text = canonical_words.straight(prompt)
    quotes = tuple(
        sorted(
            " ".join((found[1] or found[2]).split()).lower()
            for found in canonical_words.QUOTED.finditer(text)
        )
    )
    bare = canonical_words.QUOTED.sub(" \x000\x00 ", text)
    names = frozenset(
        word.lower()
        for word in re.findall(r"(?<=[\w,;'] )[A-Z][\w']*", bare)
        if word.lower() not in vocabulary.words()["bland"]
    )
    tokens = tokens_of(bare)
    chunks = list(_chunks(tokens))
    content = tuple(token for token in tokens if token.role in ("word", "verb") and not token.bland)
    return Reading(
        tokens=tokens,
        content=content,
        connectors=tuple(_connectors(tokens)),
        bonds=tuple(_near(chunks, _told(tokens))),
        phrases=tuple(_phrases(tokens)),
        heads=tuple(tokens[place].text for place in _heads(tokens)),
        numbers=tuple(sorted(key for token in tokens if token.role == "number" for key in token.keys)),
        negations=sum(token.role == "negation" for token in tokens),
        quotes=quotes,
        names=names,
        postures=frozenset(
            number
            for number, group in enumerate(vocabulary.words()["postures"])
            if any(token.text in group for token in tokens)
        ),
    )


def _chunks(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Noun phrases: runs of content words and numbers between whatever relates, joins or opens a new phrase.

    `black and white cat` is one: a single word before an `and` that no article follows describes what comes next.
    """
    run: list[Token] = []
    shared: list[Token] = []
    for index, token in enumerate(tokens):
        inside = is_noun(token) or token.role == "number"
        if (not inside or token.opens) and run:
            after = tokens[index + 1 : index + 3]
            if (
                len(run) == 1
                and not run[0].plural
                and tokens[max(0, index - 2)].text != ","
                and token.text == "and"
                and len(after) == 2
                and all(map(is_noun, after))
                and not after[0].opens
            ):
                shared += run
            else:
                yield [*shared, *run]
                shared = []
            run = []
        if inside:
            run.append(token)
    if run or shared:
        yield [*shared, *run]


def _phrases(tokens: Sequence[Token]) -> Iterator[int]:
    number = 0
    for token in tokens:
        if token.role in ("relation", "verb", "stop") and not (token.bland and token.role == "verb"):
            number += 1
        if token.role in ("word", "verb") and not token.bland:
            yield number


def _told(tokens: Sequence[Token]) -> dict[int, Keys]:
    """By identity of a word what else it may belong to: a thing to the verb that follows, as in `an airplane flying`,
    and what a copula says to each thing before it, as in `a person with a cat is serious`."""
    found: dict[int, Keys] = {}
    heads: list[Token] = []
    for one, two in pairwise(token for token in tokens if not token.bland or token.text in COPULAS):
        if is_noun(one):
            heads.append(one)
            if two.role == "verb":
                found[id(one)] = two.keys
        elif one.role == "stop":
            heads.clear()
        elif one.text in COPULAS and is_noun(two):
            found[id(two)] = _numbered(heads)
            found |= {id(head): found.get(id(head), frozenset()) | two.keys for head in heads}
    return found


def _near(chunks: list[list[Token]], told: Mapping[int, Keys]) -> Iterator[Bond]:
    """For each content word and number: what it may belong to, and whether it stands in one phrase with that."""
    heads = Counter(chunk[-1].text for chunk in chunks)
    for index, chunk in enumerate(chunks):
        head = chunk[-1]
        for place, token in enumerate(chunk):
            if len(chunk) == 1:
                around = [*chunks[max(0, index - 1) : index], *chunks[index + 1 : index + 2]]
                mates = _numbered(other[-1] for other in around)
                yield Bond(token, mates | told.get(id(token), frozenset()), inside=False)
            elif token is head:
                yield Bond(token, _numbered(chunk[:-1]), inside=True)
            else:
                # Where a head comes twice, as in `a trophy and a trophy base`, the next word tells which is meant.
                mate = chunk[place + 1] if heads[head.text] > 1 else head
                yield Bond(token, _numbered([mate]), inside=True)


def _connectors(tokens: tuple[Token, ...]) -> Iterator[Connector]:
    heads = _heads(tokens)
    start, passive = 0, 0
    for index, token in enumerate(tokens):
        if token.role == "stop" or _begins_clause(token, tokens[index + 1 : index + 2]):
            start = index + 1
        if token.role not in ("relation", "verb") or (token.bland and token.role == "verb"):
            continue
        if "together" in token.keys:
            continue
        left = _numbered(tokens[place] for place in heads if start <= place < index)
        right, end = _after(tokens, heads, index + 1)
        if "with" in token.keys:
            right |= _listed(tokens, heads, end)
        if token.role == "verb":
            passive = place_of_by(tokens, index + 1) if is_participle(token) else 0
        if index < passive:
            agent, _ = _after(tokens, heads, passive + 1)
            yield Connector(token, agent, left, agent)
            continue
        if not left:
            # `on the table, a cat`
            left, _ = _after(tokens, heads, end)
        before = [place for place in heads if start <= place < index]
        nearest = _numbered(tokens[place] for place in _joined(tokens, before)) if before else left
        if token.role == "relation" and points_back(tokens[index + 1 : index + 2]) and left - nearest:
            # `a table with a lamp on it`: what stands next to it is on what came before.
            left, right = nearest, left - nearest
        if not right and not points_back(tokens[index + 1 : index + 2]) and token.keys & _ADVERBIAL:
            # `outside`: where all of it is, and not what stands next to it alone.
            nearest = left
        yield Connector(token, left, right, nearest)


def _begins_clause(token: Token, after: Sequence[Token]) -> bool:
    """`while a man`: what came before is not what this clause speaks of. `while sitting` goes on with it."""
    return token.text == "while" and any(is_noun(word) or word.role == "number" for word in after)


def _listed(tokens: Sequence[Token], heads: Sequence[int], start: int) -> Keys:
    """What a list goes on with: the bird of `with a cat on a mat and a bird in a tree`."""
    sentence = takewhile(lambda place: tokens[place].role != "stop", range(start, len(tokens) - 1))
    ands = [place for place in sentence if tokens[place].text == "and" and tokens[place + 1].opens]
    return _numbered(
        tokens[next(head for head in heads if head > place)] for place in ands if heads and place < heads[-1]
    )


def _joined(tokens: Sequence[Token], before: list[int]) -> Iterator[int]:
    """The last of the places and those joined to it: `a shirt and a tie`."""
    for place, earlier in zip(reversed(before), [*reversed(before[:-1]), 0], strict=True):
        yield place
        if not any(token.role == "join" for token in tokens[earlier:place]):
            return


def _heads(tokens: Sequence[Token]) -> list[int]:
    """The places of the last words of noun phrases."""
    return [
        index
        for index, token in enumerate(tokens)
        if is_noun(token)
        and not (index + 1 < len(tokens) and is_noun(tokens[index + 1]) and not tokens[index + 1].opens)
    ]


def _after(tokens: Sequence[Token], heads: Sequence[int], start: int) -> tuple[Keys, int]:
    """The heads of the phrase that follows and of those joined to it, and where it ends."""
    found: list[Token] = []
    for index in range(start, len(tokens)):
        token = tokens[index]
        if index in heads:
            found.append(token)
        elif (
            token.role in ("stop", "relation")
            or token.text == "while"
            or (found and not token.opens and (token.bland or token.role == "verb"))
        ):
            return _numbered(found), index
    return _numbered(found), len(tokens)


def _numbered(tokens: Iterable[Token]) -> Keys:
    """Keys that tell one from many: a person who watches people is not people who watch a person."""
    return frozenset(f"{key}+" if token.plural else key for token in tokens for key in token.keys)

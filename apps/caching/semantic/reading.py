"""A prompt as far as words tell its structure: chunks (noun phrases), what connects them, and what may not change."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, Literal

from apps.caching.canonical import form
from apps.caching.canonical import words as canonical_words

_FILE = Path(__file__).with_name("words.toml")
_WORD = re.compile(r"\x00\d+\x00|[^\W_]+(?:['-][^\W_]+)*|[.,;:!?&]")
_VOWELS = "aeiou"
_COPULAS = ("is", "are", "was", "were")
# Relations that stand alone, too.
_ADVERBIAL = {"outside", "out", "around", "down", "away", "off"}
_DEGREES = ("very", "both", "also", "so", "just")

Role = Literal["word", "verb", "relation", "join", "stop", "number", "negation", "quote", "bland"]
Keys = frozenset[str]


@dataclass(frozen=True, slots=True)
class Token:
    """One word or phrase. `keys`: its possible base forms and their synonyms; two tokens match if they share one."""

    text: str
    role: Role
    keys: Keys
    plural: bool = False
    opens: bool = False
    bland: bool = False

    def matches(self, other: "Token") -> bool:
        return not self.keys.isdisjoint(other.keys)


# What a prompt begins after.
_START = Token("", "stop", frozenset())


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
    bonds: tuple["Bond", ...]
    # For each content word: the number of its phrase, where `a cat and a dog` is one.
    phrases: tuple[int, ...]
    heads: tuple[str, ...]
    numbers: tuple[str, ...]
    negations: int
    quotes: tuple[str, ...]
    names: Keys
    postures: frozenset[int] = field(default_factory=frozenset)


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
        if word.lower() not in words()["bland"]
    )
    raw = [word.lower() for word in _WORD.findall(bare)]
    tokens = _silenced(_attributive(_counted(list(_tokens(form.unwrapped(raw) if raw else raw)))))
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
            for number, group in enumerate(words()["postures"])
            if any(token.text in group for token in tokens)
        ),
    )


# --- Tokens ------------------------------------------------------------------------------------


def _tokens(raw: list[str]) -> Iterator[Token]:
    index, opens = 0, False
    before = _START
    while index < len(raw):
        size, token = _one(raw, index, opens)
        index += size
        if token.text in ("a", "an", "the"):
            opens = True
            continue
        if token.role == "verb" and (
            _names(token, before) or _describes(token, before, raw[index : index + 1])
        ):
            token = replace(token, role="word")
        yield token
        if not _is_adverb(token) and token.text not in _DEGREES:
            before, opens = token, False


def _names(verb: Token, before: Token) -> bool:
    """Whether the form of a verb stands where a noun stands: `two waves`, `for repair`, `ski equipment on the floor`.
    No clause begins with a bare verb."""
    bare = not verb.text.endswith(("ing", "ed"))
    return (
        before.role == "number"
        or before.text.endswith(" of")
        or (bare and before.role in ("relation", "stop"))
    )


def _attributive(tokens: list[Token]) -> list[Token]:
    """`a mule that is bridled` as `a bridled mule`: what is said of a thing by a copula, before the thing."""
    for place, token in enumerate(tokens):
        noun = place - 2 if place > 1 and tokens[place - 1].text in ("that", "which", "who") else place - 1
        if token.text not in _COPULAS or noun < 0 or not _is_noun(tokens[noun]):
            continue
        if noun == place - 1 and any(other.role != "word" for other in tokens[:noun]):
            # `a man with a hat is happy`: it may not be the hat that is.
            continue
        said = next((i for i in range(place + 1, len(tokens)) if tokens[i].text not in _DEGREES), len(tokens))
        if said < len(tokens) and _is_quality(tokens[said], tokens[said + 1 : said + 2]):
            quality = replace(tokens.pop(said), role="word", opens=tokens[noun].opens, plural=False)
            thing = replace(tokens[noun], opens=False)
            tokens[noun : noun + 1] = [quality, thing]
    return tokens


def _is_many(number: Token) -> bool:
    """`two`, and not `one`; `a double bed` is one."""
    return number.text != "double" and number.keys != {"1"}


def _is_quality(token: Token, after: list[Token]) -> bool:
    """Whether what follows a copula is an adjective and says no more than itself."""
    if token.opens or token.bland or token.plural:
        return False
    ends = not after or after[0].role in ("stop", "join") or after[0].bland
    return (token.role == "word" and (ends or after[0].role in ("relation", "verb"))) or (
        token.role == "verb" and token.text.endswith("ed") and ends
    )


def _silenced(tokens: list[Token]) -> tuple[Token, ...]:
    """Relations that say nothing of their own: the `by` of a passive or of `by holding it`, the `has` of `a house has
    a cow in front of it`. And a verb that is a relation: `a bowl holds soup`."""
    found = list(tokens)
    for place, token in enumerate(tokens):
        after = tokens[place + 1 :]
        if token.role == "verb" and _is_participle(token) and (by := _by(tokens, place + 1)):
            found[by] = replace(tokens[by], keys=frozenset(["agent"]))
        elif token.role == "verb" and "hold" in token.keys and place and _contains(tokens[place - 1]):
            found[place] = replace(token, role="relation", keys=frozenset(["with"]))
        elif token.text == "by" and after and after[0].role == "verb" and after[0].text.endswith("ing"):
            found[place] = replace(token, keys=frozenset(["agent"]))
        elif token.text in ("has", "have") and _comes_back(after):
            found[place] = replace(token, keys=frozenset(["there"]))
    return tuple(found)


def _counted(tokens: list[Token]) -> list[Token]:
    """`several footwear` and `two sheep` are many, though the noun does not say so."""
    for place, token in enumerate(tokens):
        if token.text in words()["vague"] or (token.role == "number" and _is_many(token)):
            after = list(takewhile(lambda at: _is_noun(tokens[at]), range(place + 1, len(tokens))))
            if after:
                tokens[after[-1]] = replace(tokens[after[-1]], plural=True)
    return tokens


def _contains(token: Token) -> bool:
    return not token.keys.isdisjoint(words_of_lists()["containers"])


def _is_participle(verb: Token) -> bool:
    return verb.text.endswith("ed") or verb.text in _irregular()


def _comes_back(after: Sequence[Token]) -> bool:
    """Whether a relation to what came before follows: `in front of it`."""
    for one, two in pairwise(after):
        if one.role == "stop" or one.text == "with":
            return False
        if one.role == "relation" and _points_back([two]):
            return True
    return False


def _describes(verb: Token, before: Token, after: list[str]) -> bool:
    """`with shopping bags`, `a shabby looking shower`: a form of a verb that stands where an adjective stands."""
    if not after or not verb.text.endswith(("ing", "ed")):
        return False
    known = words()
    passed_over = after[0] in known["bland"] or (after[0],) in known["phrases"] or _is_manner(after[0])
    names = after[0][0].isalpha() and not passed_over
    leads = before.role in ("relation", "join", "stop", "number") or verb.text == "looking"
    return names and leads and after[0] not in known["prepositional"]


def _one(raw: list[str], index: int, opens: bool) -> tuple[int, Token]:
    tables = words()
    for size in (5, 4, 3, 2, 1):
        phrase = tuple(raw[index : index + size])
        found = tables["phrases"].get(phrase) or (tables["openings"].get(phrase) if index <= 1 else None)
        if found and index + size <= len(raw):
            role, key = found
            return size, Token(
                " ".join(raw[index : index + size]),
                role,
                frozenset([key]),
                opens=opens,
                bland=role == "bland",
            )
    word = raw[index]
    if "\x00" in word:
        return 1, Token(word, "quote", frozenset(['"']), opens=opens)
    if word == "&":
        return 1, Token(word, "join", frozenset(["and"]))
    if not word[0].isalnum():
        return 1, Token(word, "join" if word == "," else "stop", frozenset([word]))
    if word in tables["negations"] or word.endswith("n't"):
        return 1, Token(word, "negation", frozenset([word]))
    if word.isdigit():
        return 1, Token(word, "number", frozenset([str(int(word))]), opens=opens)
    return 1, _word(word, opens)


def _word(word: str, opens: bool) -> Token:
    tables = words()
    word = word.removesuffix("'s").removesuffix("'")
    found = bases(word)
    keys = found | {key for base in found for key in tables["synonyms"].get(base, ())}
    # The word itself counts only as a base, so that "hate" is no "hat"; its synonyms count from every base.
    bland = word in tables["bland"]
    noun = not tables["nouns_in_ing"].isdisjoint((word, word.removesuffix("s")))
    ending = word.endswith(("ing", "ed"))
    # What an article opens is a thing, or describes one: `a drink`, `a sleeping dog`.
    verb = not noun and not opens and (not tables["verbs"].isdisjoint(found) or (ending and len(word) > 4))
    ends_in_s = word.endswith("s") and not word.endswith(("ss", "us", "is")) and word not in tables["plain_s"]
    plural = ends_in_s or word in ("men", "women", "people", "children")
    return Token(word, "verb" if verb else "word", frozenset(keys), plural=plural, opens=opens, bland=bland)


@cache
def _irregular() -> Mapping[str, str]:
    table: Mapping[str, str] = words()["irregular"]
    return table


def bases(word: str) -> set[str]:
    """What the word may be a regular inflection of, itself included."""
    found = {word}
    if word in _irregular():
        found.add(_irregular()[word])
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


# --- Structure ---------------------------------------------------------------------------------


def _chunks(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Noun phrases: runs of content words and numbers between whatever relates, joins or opens a new phrase.

    `black and white cat` is one: a single word before an `and` that no article follows describes what comes next.
    """
    run: list[Token] = []
    shared: list[Token] = []
    for index, token in enumerate(tokens):
        inside = _is_noun(token) or token.role == "number"
        if (not inside or token.opens) and run:
            after = tokens[index + 1 : index + 3]
            if (
                len(run) == 1
                and not run[0].plural
                and tokens[max(0, index - 2)].text != ","
                and token.text == "and"
                and len(after) == 2
                and all(map(_is_noun, after))
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


def _is_noun(token: Token) -> bool:
    return token.role == "word" and not token.bland and not _is_adverb(token)


def _is_adverb(token: Token) -> bool:
    return _is_manner(token.text)


def _is_manner(word: str) -> bool:
    return word.endswith("ly") and len(word) > 5 and word not in words_of_lists()["not_adverbs"]


def _told(tokens: Sequence[Token]) -> dict[int, Keys]:
    """By identity of a word what else it may belong to: a thing to the verb that follows, as in `an airplane flying`,
    and what a copula says to each thing before it, as in `a person with a cat is serious`."""
    found: dict[int, Keys] = {}
    heads: list[Token] = []
    for one, two in pairwise(token for token in tokens if not token.bland or token.text in _COPULAS):
        if _is_noun(one):
            heads.append(one)
            if two.role == "verb":
                found[id(one)] = two.keys
        elif one.role == "stop":
            heads.clear()
        elif one.text in _COPULAS and _is_noun(two):
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
            passive = _by(tokens, index + 1) if _is_participle(token) else 0
        if index < passive:
            agent, _ = _after(tokens, heads, passive + 1)
            yield Connector(token, agent, left, agent)
            continue
        if not left:
            # `on the table, a cat`
            left, _ = _after(tokens, heads, end)
        before = [place for place in heads if start <= place < index]
        nearest = _numbered(tokens[place] for place in _joined(tokens, before)) if before else left
        if token.role == "relation" and _points_back(tokens[index + 1 : index + 2]) and left - nearest:
            # `a table with a lamp on it`: what stands next to it is on what came before.
            left, right = nearest, left - nearest
        if not right and not _points_back(tokens[index + 1 : index + 2]) and token.keys & _ADVERBIAL:
            # `outside`: where all of it is, and not what stands next to it alone.
            nearest = left
        yield Connector(token, left, right, nearest)


def _begins_clause(token: Token, after: Sequence[Token]) -> bool:
    """`while a man`: what came before is not what this clause speaks of. `while sitting` goes on with it."""
    return token.text == "while" and any(_is_noun(word) or word.role == "number" for word in after)


def _listed(tokens: Sequence[Token], heads: Sequence[int], start: int) -> Keys:
    """What a list goes on with: the bird of `with a cat on a mat and a bird in a tree`."""
    sentence = takewhile(lambda place: tokens[place].role != "stop", range(start, len(tokens) - 1))
    ands = [place for place in sentence if tokens[place].text == "and" and tokens[place + 1].opens]
    return _numbered(
        tokens[next(head for head in heads if head > place)] for place in ands if heads and place < heads[-1]
    )


def _points_back(after: Sequence[Token]) -> bool:
    return any(token.text in ("it", "them", "him", "her") for token in after)


def _by(tokens: Sequence[Token], start: int) -> int:
    """The place of the `by` of `eaten by` or `looked up at by`; 0: the verb is no passive."""
    for index in range(start, min(start + 3, len(tokens))):
        if tokens[index].text == "by":
            return index
        if tokens[index].role != "relation" and tokens[index].text != "up":
            break
    return 0


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
        if _is_noun(token)
        and not (index + 1 < len(tokens) and _is_noun(tokens[index + 1]) and not tokens[index + 1].opens)
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


def words_of_lists() -> Mapping[str, Any]:
    """The lists of relations: which are strong, alike, each other's converse."""
    table: Mapping[str, Any] = words()["lists"]
    return table

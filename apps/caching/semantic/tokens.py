"""The words of a prompt, each with the part it plays."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile

from apps.caching.canonical import form
from apps.caching.semantic import vocabulary
from apps.caching.semantic.vocabulary import Role

Keys = frozenset[str]

_WORD = re.compile(r"\x00\d+\x00|[^\W_]+(?:['-][^\W_]+)*|[.,;:!?&]")
COPULAS = ("is", "are", "was", "were")
_DEGREES = ("very", "both", "also", "so", "just")


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


# What a prompt begins after.
_START = Token("", "stop", frozenset())


def tokens_of(text: str) -> tuple[Token, ...]:
    """The words of a prompt in which quoted texts stand as `\x000\x00`."""
    raw = [word.lower() for word in _WORD.findall(text)]
    return _silenced(_attributive(_counted(list(_tokens(form.unwrapped(raw) if raw else raw)))))


def is_noun(token: Token) -> bool:
    return token.role == "word" and not token.bland and not is_adverb(token)


def is_adverb(token: Token) -> bool:
    return _is_manner(token.text)


def _is_manner(word: str) -> bool:
    return word.endswith("ly") and len(word) > 5 and word not in vocabulary.lists()["not_adverbs"]


def points_back(after: Sequence[Token]) -> bool:
    return any(token.text in ("it", "them", "him", "her") for token in after)


def place_of_by(tokens: Sequence[Token], start: int) -> int:
    """The place of the `by` of `eaten by` or `looked up at by`; 0: the verb is no passive."""
    for index in range(start, min(start + 3, len(tokens))):
        if tokens[index].text == "by":
            return index
        if tokens[index].role != "relation" and tokens[index].text != "up":
            break
    return 0


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
        if not is_adverb(token) and token.text not in _DEGREES:
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
        if token.text not in COPULAS or noun < 0 or not is_noun(tokens[noun]):
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
        if token.role == "verb" and is_participle(token) and (by := place_of_by(tokens, place + 1)):
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
        if token.text in vocabulary.words()["vague"] or (token.role == "number" and _is_many(token)):
            after = list(takewhile(lambda at: is_noun(tokens[at]), range(place + 1, len(tokens))))
            if after:
                tokens[after[-1]] = replace(tokens[after[-1]], plural=True)
    return tokens


def _contains(token: Token) -> bool:
    return not token.keys.isdisjoint(vocabulary.lists()["containers"])


def is_participle(verb: Token) -> bool:
    return verb.text.endswith("ed") or verb.text in vocabulary.irregular()


def _comes_back(after: Sequence[Token]) -> bool:
    """Whether a relation to what came before follows: `in front of it`."""
    for one, two in pairwise(after):
        if one.role == "stop" or one.text == "with":
            return False
        if one.role == "relation" and points_back([two]):
            return True
    return False


def _describes(verb: Token, before: Token, after: list[str]) -> bool:
    """`with shopping bags`, `a shabby looking shower`: a form of a verb that stands where an adjective stands."""
    if not after or not verb.text.endswith(("ing", "ed")):
        return False
    known = vocabulary.words()
    passed_over = after[0] in known["bland"] or (after[0],) in known["phrases"] or _is_manner(after[0])
    names = after[0][0].isalpha() and not passed_over
    leads = before.role in ("relation", "join", "stop", "number") or verb.text == "looking"
    return names and leads and after[0] not in known["prepositional"]


def _one(raw: list[str], index: int, opens: bool) -> tuple[int, Token]:
    tables = vocabulary.words()
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
    tables = vocabulary.words()
    word = word.removesuffix("'s").removesuffix("'")
    found = vocabulary.bases(word)
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

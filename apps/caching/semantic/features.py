"""What tells two prompts apart, as numbers: counts of what one says and the other does not."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import combinations, pairwise

from apps.caching.semantic import vocabulary
from apps.caching.semantic.reading import Connector, Reading, read
from apps.caching.semantic.tokens import Token

NAMES = (
    "cosine",
    "lost",
    "numbers",
    "negations",
    "quotes",
    "names",
    "strong_relations",
    "replaced_relations",
    "weak_relations",
    "verbs_changed",
    "exchanged",
    "doubled",
    "bindings",
    "roles",
    "postures",
    "plurals",
    "bland",
    "inversions",
    "crossings",
    "length",
    "synonyms",
)


# `A while B` and `A as B`; not `while watching`, `as well as`, `as a clown`.
_MEANWHILE = re.compile(r",?\s+(?:while|as)\s+(?!\w+ing\b|if\b|well\b|it\b|an?\s+\w+$)", re.IGNORECASE)
# What they stand for is said in the other clause.
_PRONOUN = re.compile(r"\b(?:they|them|he|him|she|her|it)\b", re.IGNORECASE)


@cache
def _pairs(name: str) -> frozenset[frozenset[str]]:
    return frozenset(frozenset(pair) for pair in vocabulary.lists()[name])


def of(prompt_a: str, prompt_b: str, cosine: float) -> dict[str, float]:
    """The features of two prompts by name; 0 says "no difference" for all but `cosine`."""
    one, two = _compounded(prompt_a, prompt_b), _compounded(prompt_b, prompt_a)
    return between(read(one), read(_in_order_of(one, two)), cosine)


def _in_order_of(prompt: str, other: str) -> str:
    """`other`, its two clauses in the order of those of `prompt`: `A while B` and `B while A` say the same."""
    ours, theirs = _MEANWHILE.split(prompt.rstrip(". ")), _MEANWHILE.split(other.rstrip(". "))
    if len(ours) != 2 or len(theirs) != 2 or _PRONOUN.search(prompt) or _PRONOUN.search(other):
        return other
    (a, b), (c, d) = ([read(part).content for part in both] for both in (ours, theirs))
    straight, crossed = (
        len(_align(a, c)[0]) + len(_align(b, d)[0]),
        len(_align(a, d)[0]) + len(_align(b, c)[0]),
    )
    return f"{theirs[1]} while {theirs[0][:1].lower()}{theirs[0][1:]}" if crossed > straight else other


def _compounded(prompt: str, other: str) -> str:
    """`side car` as `sidecar` if the other prompt writes it so; `well-known` apart unless the other has it too."""
    theirs = set(re.findall(r"\w[\w-]*", other.lower()))
    for word in re.findall(r"\w+(?:-\w+)+", prompt):
        if word.lower() not in theirs:
            prompt = prompt.replace(word, word.replace("-", " "))
    for first, second in pairwise(re.findall(r"\w+", prompt)):
        if (first + second).lower() in theirs:
            prompt = re.sub(rf"\b{first} {second}\b", first + second, prompt)
    return prompt


def between(a: Reading, b: Reading, cosine: float) -> dict[str, float]:
    """The features of two readings.

    Words in the same order can't have changed places: then what seems bound or related otherwise is our reading's
    mistake, as long as the relations are the same.
    """
    matched, lost_a, lost_b = _align(a.content, b.content)
    back = [(j, i) for i, j in matched]
    lost_a, lost_b = _without_light(lost_a, a, b, matched), _without_light(lost_b, b, a, back)
    lost_a, lost_b = _without_pale(lost_a, a, b), _without_pale(lost_b, b, a)
    strong, replaced, weak = _relations(a, b)
    order = sorted(matched)
    inversions = _inversions([j for _, j in order])
    crossings = _inversions([b.phrases[j] for _, j in order], [a.phrases[i] for i, _ in order])
    moved = inversions > 0 or _order(a) != _order(b)
    related = bool(_extra(a, b) or _extra(b, a))
    return {
        "cosine": cosine,
        "lost": float(len(lost_a) + len(lost_b)),
        "numbers": float(a.numbers != b.numbers),
        "negations": float(a.negations != b.negations),
        "quotes": float(a.quotes != b.quotes),
        "names": float(len(a.names ^ b.names)),
        "strong_relations": float(strong),
        "replaced_relations": float(replaced),
        "weak_relations": float(weak),
        "verbs_changed": float(sum(token.role == "verb" for token in [*lost_a, *lost_b])),
        "exchanged": float(_exchanged(a, b, crossings) or (inversions > 0 and _traded(a, b))),
        "doubled": float(moved and _doubled(a, b, inversions)),
        "bindings": float(_bindings(a, b) if moved else 0),
        "roles": float(_roles(a, b) + _roles(b, a) if moved or related else 0),
        "postures": float(bool(a.postures and b.postures and a.postures != b.postures)),
        "plurals": float(sum(_number_differs(a.content[i], b.content[j]) for i, j in matched)),
        "bland": float(_bland(a, b)),
        "inversions": inversions,
        "crossings": crossings,
        "length": abs(len(a.tokens) - len(b.tokens)) / max(len(a.tokens), len(b.tokens), 1),
        "synonyms": float(sum(a.content[i].text != b.content[j].text for i, j in matched)),
    }


def _order(reading: Reading) -> list[tuple[int, str]]:
    """After how many content words each number, quotation and negation comes."""
    places, seen = [], 0
    for token in reading.tokens:
        seen += token.role in ("word", "verb") and not token.bland
        if token.role in ("number", "quote", "negation"):
            places.append((seen, _key(token)))
    return places


Matched = list[tuple[int, int]]

_LIGHT = {"ride", "take", "do", "have", "make", "go", "give"}
_PLACED = {"positioned", "situated", "placed", "located", "stationed"}
# No relations: see tokens._silenced.
_SILENT = {"agent", "there"}
_JOINS = {"and", ",", "or", "but"}
# Between these words may change places.
_EVEN = {"and", ",", "near"}


def _align(a: Sequence[Token], b: Sequence[Token]) -> tuple[Matched, list[Token], list[Token]]:
    """Content words to content words, equal texts first; and what is left on either side."""
    free = dict(enumerate(b))
    matched: Matched = []
    rest: list[int] = []
    for index, token in enumerate(a):
        equal = next((j for j, other in free.items() if other.text == token.text), None)
        if equal is None:
            rest.append(index)
        else:
            matched.append((index, equal))
            del free[equal]
    lost: list[Token] = []
    for index in rest:
        like = next((j for j, other in free.items() if other.matches(a[index])), None)
        if like is None:
            lost.append(a[index])
        else:
            matched.append((index, like))
            del free[like]
    return matched, lost, list(free.values())


def _without_light(lost: list[Token], ours: Reading, other: Reading, matched: Matched) -> list[Token]:
    """Less the verbs that only carry their object, which is the verb of the other prompt: `riding a snowboard` as
    `snowboarding`."""
    verbs = {i for i, j in matched if other.content[j].role == "verb" and ours.content[i].role == "word"}
    light = {id(token) for i, token in enumerate(ours.content) if i + 1 in verbs and token.keys & _LIGHT}
    return [token for token in lost if id(token) not in light]


def _without_pale(lost: list[Token], ours: Reading, other: Reading) -> list[Token]:
    """Less those that the other prompt says in a word that we pass over: `gazes` as `is observed`, and `is parked`
    as `is positioned`."""
    pale = [token for token in other.tokens if token.bland and token.role in ("word", "verb")]
    placing = vocabulary.lists()["placing"]
    places = sum(token.text in _PLACED for token in pale) - sum(
        token.text in _PLACED for token in ours.tokens
    )
    kept = []
    for token in lost:
        if token.role == "verb" and places > 0 and not token.keys.isdisjoint(placing):
            places -= 1
        elif not any(token.matches(word) for word in pale):
            kept.append(token)
    return kept


def _number_differs(one: Token, two: Token) -> bool:
    verbal = one.role == "verb" or two.role == "verb"
    return one.plural != two.plural and not verbal


def _bland(a: Reading, b: Reading) -> int:
    one = Counter(token.text for token in a.tokens if token.bland)
    two = Counter(token.text for token in b.tokens if token.bland)
    return ((one - two) + (two - one)).total()


def _inversions(order: Sequence[int], groups: Sequence[int] = ()) -> float:
    """The share of pairs of words that stand the other way round, those of one group aside."""
    count = len(order)
    if count < 2:
        return 0.0
    wrong = sum(
        order[i] > order[j] and (not groups or groups[i] != groups[j])
        for i in range(count)
        for j in range(i + 1, count)
    )
    return wrong / (count * (count - 1) / 2)


# --- Relations ---------------------------------------------------------------------------------


def _key(token: Token) -> str:
    return next(iter(token.keys))


def _relations(a: Reading, b: Reading) -> tuple[int, int, int]:
    """How many relations one prompt has and the other has not, not even the other way round: strong ones, those in
    each other's place, and the rest. A list relates too: `a cat and a mat` is no cat on a mat."""
    strong_words = vocabulary.lists()["strong"]
    one, two = (
        Counter(
            _key(token)
            for token in reading.tokens
            if token.role in ("relation", "join") and _key(token) not in _SILENT
        )
        for reading in (a, b)
    )
    left, right = list((one - two).elements()), list((two - one).elements())
    for name in list(left):
        other = next(
            (other for other in right if frozenset((name, other)) in _pairs("converse") | _pairs("alike")),
            None,
        )
        if other:
            left.remove(name)
            right.remove(other)
    replaced = min(len(left), len(right)) if {*left, *right} - _JOINS else 0
    rest = [name for name in left + right if name not in _JOINS]
    strong = sum(name in strong_words for name in rest)
    return strong, replaced, max(0, len(rest) - 2 * replaced)


def _extra(a: Reading, b: Reading) -> frozenset[str]:
    """The relations that `a` has more often than `b`."""
    one = Counter(_key(token) for token in a.tokens if token.role == "relation")
    two = Counter(_key(token) for token in b.tokens if token.role == "relation")
    return frozenset(one - two)


def _roles(a: Reading, b: Reading) -> int:
    """Relations and verbs of `a` that `b` has too, but between others."""
    ours, theirs = _extra(a, b), _extra(b, a)
    return sum(_conflicts(one, b.connectors, ours, theirs) for one in a.connectors)


def _conflicts(
    one: Connector, others: Sequence[Connector], ours: frozenset[str], theirs: frozenset[str]
) -> bool:
    seen = False
    for other in others:
        way = _way(one.token, other.token)
        if way is None:
            continue
        # A converse counts only where it may stand for the one that is missing.
        seen |= way != "converse" or (_key(one.token) in ours and _key(other.token) in theirs)
        if way in ("same", "either") and _same_left(one, other) and _meet(one.right, other.right):
            return False
        if way in ("converse", "either") and one.left & other.right and one.right & other.left:
            return False
    return seen


def _way(one: Token, two: Token) -> str | None:
    if one.role != two.role:
        return None
    if one.role == "verb":
        return "same" if one.matches(two) else None
    name, other = _key(one), _key(two)
    pair = frozenset((name, other))
    if name == other:
        return "either" if name in vocabulary.lists()["symmetric"] else "same"
    if pair in _pairs("converse"):
        return "either" if pair in _pairs("alike") else "converse"
    return "same" if pair in _pairs("alike") else None


def _same_left(one: Connector, other: Connector) -> bool:
    if one.token.role == "relation" and not one.right and not other.right:
        # `on top of it`: only what stands next to it tells them apart.
        return _meet(one.nearest, other.nearest)
    return _meet(one.nearest, other.left) or _meet(one.left, other.nearest)


def _meet(one: frozenset[str], two: frozenset[str]) -> bool:
    """Whether they may be the same; nothing known of one side is no difference."""
    return not one or not two or not one.isdisjoint(two)


def _bindings(a: Reading, b: Reading) -> int:
    """Words that both prompts have, and that describe different things in them."""
    count = 0
    for one in a.bonds:
        others = [other for other in b.bonds if other.token.matches(one.token)]
        if not others or not (one.inside or any(other.inside for other in others)):
            continue
        if not any(_meet(one.mates, other.mates) for other in others):
            count += 1
    return count


def _frame(reading: Reading) -> list[str]:
    """What relates and joins, in order."""
    return [
        min(token.keys)
        for token in reading.tokens
        if token.role in ("relation", "join", "verb") and (not token.bland or token.role == "relation")
    ]


def _exchanged(a: Reading, b: Reading, inversions: float) -> bool:
    """The same frame with its words in other places: `scissors with pens` and `pens with scissors`."""
    frame = _frame(a)
    return inversions > 0 and frame == _frame(b) and not set(frame) <= _EVEN


def _traded(a: Reading, b: Reading) -> bool:
    """Two relations or verbs whose left sides changed places, however they are worded: `a woman watches while a man
    holds a bat` and `a woman holds a bat while a man watches`. Seen by what stands next to each, and so also where the
    frames differ."""
    alike = [
        (one, other)
        for one in a.connectors
        for other in b.connectors
        if _way(one.token, other.token) in ("same", "either") and _meet(one.right, other.right)
    ]
    return any(
        one is not two
        and other is not twin
        and bool(one.nearest & twin.nearest and two.nearest & other.nearest)
        and not (one.nearest & other.nearest or two.nearest & twin.nearest or one.nearest & two.nearest)
        for (one, other), (two, twin) in combinations(alike, 2)
    )


def _doubled(a: Reading, b: Reading, inversions: float) -> bool:
    """One noun twice, and another order: which of the two is meant can't be told."""
    frames = _frame(a), _frame(b)
    if (inversions == 0 and frames[0] == frames[1]) or not any(set(frame) - _EVEN for frame in frames):
        return False
    return any(count > 1 for reading in (a, b) for count in Counter(reading.heads).values())

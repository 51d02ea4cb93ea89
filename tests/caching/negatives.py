"""Pairs of prompts that ask for different pictures, however alike they look: thousands, by template."""

from collections.abc import Iterator
from itertools import islice, permutations, product

ANIMALS = ("dog", "cat", "horse", "fox", "bird", "bear")
THINGS = ("car", "chair", "lamp", "cup", "boat", "hat")
COLORS = ("red", "blue", "green", "black", "white", "yellow")
NUMBERS = ("two", "three", "four", "5", "12")
VERBS = ("chasing", "watching", "carrying", "facing", "riding")
RELATIONS = (
    "left of",
    "right of",
    "above",
    "below",
    "behind",
    "in front of",
    "on top of",
    "under",
    "inside",
    "near",
)
STYLES = ("a photo of", "a cartoon of", "an oil painting of", "a pencil sketch of", "a pixel art version of")


def pairs() -> Iterator[tuple[str, str, str]]:
    """(kind, one prompt, another)."""
    for kind, found in _KINDS.items():
        for one, other in found():
            yield kind, one, other


def _swapped_roles() -> Iterator[tuple[str, str]]:
    for (one, other), verb in product(permutations(ANIMALS, 2), VERBS):
        yield f"a {one} {verb} a {other}", f"a {other} {verb} a {one}"
        yield f"the {one} is {verb} the {other}", f"{other} {verb} {one}"


def _swapped_attributes() -> Iterator[tuple[str, str]]:
    for (one, other), (thing, thing2) in product(
        permutations(COLORS, 2), islice(permutations(THINGS, 2), 12)
    ):
        yield f"a {one} {thing} and a {other} {thing2}", f"a {other} {thing} and a {one} {thing2}"
        yield f"a {one} {thing} beside a {other} {thing2}", f"a {other} {thing} beside a {one} {thing2}"
        yield f"{thing}, {one}, {thing2}, {other}", f"{thing}, {other}, {thing2}, {one}"


def _replaced() -> Iterator[tuple[str, str]]:
    for (one, other), thing in product(permutations(COLORS, 2), THINGS):
        yield f"a {one} {thing} on a table", f"a {other} {thing} on a table"
    for (one, other), color in product(permutations(ANIMALS, 2), COLORS):
        yield f"a {color} {one} in the snow", f"a {color} {other} in the snow"


def _counts() -> Iterator[tuple[str, str]]:
    for (one, other), animal in product(permutations(NUMBERS, 2), ANIMALS):
        yield f"{one} {animal}s", f"{other} {animal}s"
        yield f"{one} {animal}s and {other} hats", f"{other} {animal}s and {one} hats"
    for animal, number in product(ANIMALS, NUMBERS):
        yield f"a {animal}", f"{animal}s"
        yield f"{number} {animal}s and a hat", f"a {animal} and {number} hats"


def _relations() -> Iterator[tuple[str, str]]:
    for (one, other), animal, thing in product(permutations(RELATIONS, 2), ANIMALS, THINGS):
        if {one, other} != {"on top of", "above"}:
            yield f"a {animal} {one} a {thing}", f"a {animal} {other} a {thing}"
    for relation, animal, thing in product(RELATIONS, ANIMALS, THINGS):
        if relation != "near":
            yield f"a {animal} {relation} a {thing}", f"a {thing} {relation} a {animal}"


def _negations() -> Iterator[tuple[str, str]]:
    for animal, thing in product(ANIMALS, THINGS):
        yield f"a {animal} with a {thing}", f"a {animal} without a {thing}"
        yield f"a {animal} with a {thing}", f"a {animal} with no {thing}"
        yield f"the {animal} is wearing a {thing}", f"the {animal} is not wearing a {thing}"


def _styles() -> Iterator[tuple[str, str]]:
    for style, animal in product(STYLES, ANIMALS):
        yield f"a {animal} at a lake", f"{style} a {animal} at a lake"
    for (one, other), animal in product(permutations(STYLES, 2), ANIMALS):
        yield f"{one} a {animal}", f"{other} a {animal}"


def _scopes() -> Iterator[tuple[str, str]]:
    for (one, other), color in product(permutations(ANIMALS, 2), COLORS):
        yield f"{color} {one}s and {other}s", f"{other}s and {color} {one}s and {color} {other}s"
        yield f"a {one} and a {other} wearing a hat", f"a {other} and a {one} wearing a hat"
        yield f"a painting of a {one} and a {other}", f"a {other} and a painting of a {one}"
        yield f"a {one} on a sofa and a {other}", f"a {other} on a sofa and a {one}"
        yield f"a man riding a {one} and a {other}", f"a man riding a {other} and a {one}"
        yield f"a {color}-eyed {one} {other}", f"a {color} eyed {one} {other}"


def _texts() -> Iterator[tuple[str, str]]:
    for animal in ANIMALS:
        yield f'a {animal} with a sign "Stop the car"', f'a {animal} with a sign "Stop car"'
        yield f'a {animal} with a sign "US"', f'a {animal} with a sign "us"'
        yield f"a {animal} and a sign 'one'", f"a {animal} and a sign '1'"


_KINDS = {
    "swapped roles": _swapped_roles,
    "swapped attributes": _swapped_attributes,
    "replaced": _replaced,
    "counts": _counts,
    "relations": _relations,
    "negations": _negations,
    "styles": _styles,
    "scopes": _scopes,
    "texts": _texts,
}

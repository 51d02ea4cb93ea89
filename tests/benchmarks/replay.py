"""`python -m tests.benchmarks.replay`: a Zipf workload of scenes asked for in many wordings, through all three tiers.

Beside each popular scene lie its hard negatives: the same words in other places, other colours, numbers and sides. The
tiers decide as in production; Postgres is left out, the nearest are found by computing every similarity.
"""

import argparse
import random
import sys
import time
from collections import Counter
from itertools import accumulate
from typing import Final

import numpy as np

from apps.caching import fingerprint
from apps.caching.canonical import form
from apps.caching.semantic import guard, minilm

_EXPONENT: Final = 1.0
_COLORS = ("red", "blue", "green", "black", "white")
_ANIMALS = ("dog", "cat", "horse", "fox", "rabbit")
_THINGS = ("couch", "car", "bench", "tree", "bicycle")
_PLACES = ("in a forest", "on a beach", "in the snow", "at night", "in a kitchen")
_SIDES = ("behind", "in front of", "next to", "under")
_COUNTS = ("two", "three", "four")

Scene = tuple[str, ...]


def scenes(draw: random.Random, count: int) -> list[Scene]:
    """Different pictures, many of them of the same words."""
    found: list[Scene] = [
        ("side", color, animal, side, other, thing)
        for color in _COLORS for animal in _ANIMALS for side in _SIDES for other in _COLORS for thing in _THINGS
        if other != color
    ]  # fmt: skip
    found += [
        ("count", number, animal, place) for number in _COUNTS for animal in _ANIMALS for place in _PLACES
    ]
    found += [
        ("both", c1, a, c2, b)
        for c1 in _COLORS
        for c2 in _COLORS
        for a in _ANIMALS
        for b in _THINGS
        if c1 != c2
    ]
    draw.shuffle(found)
    return list(found[:count])


def worded(draw: random.Random, scene: Scene) -> str:
    """The scene in one of its wordings: as users write it, with what changes nothing."""
    kind, *words = scene
    if kind == "side":
        color, animal, side, other, thing = words
        text = draw.choice(
            (
                f"a {color} {animal} {side} a {other} {thing}",
                f"{color} {animal} {side} {other} {thing}",
                f"A {color} {animal} is {side} a {other} {thing}.",
                f"A {color} {animal} positioned {side} a {other} {thing}",
                f"the {color} {animal} that is {side} the {other} {thing}",
            )
        )
    elif kind == "count":
        number, animal, place = words
        digit = {"two": "2", "three": "3", "four": "4"}[number]
        text = draw.choice(
            (
                f"{number} {animal}s {place}",
                f"{digit} {animal}s {place}",
                f"there are {number} {animal}s {place}",
                f"{number} {animal}s are {place}",
                f"an image of {digit} {animal}s {place}",
                f"{place}, {number} {animal}s",
            )
        )
    else:
        one, animal, two, thing = words
        text = draw.choice(
            (
                f"a {one} {animal} and a {two} {thing}",
                f"a {two} {thing} and a {one} {animal}",
                f"{one} {animal} and {two} {thing}",
                f"please draw a {one} {animal} and a {two} {thing}",
                f"a {one} {animal} along with a {two} {thing}",
            )
        )
    swaps = (
        ("couch", "sofa"),
        ("bicycle", "bike"),
        ("rabbit", "bunny"),
        ("forest", "woods"),
        ("next to", "beside"),
    )
    for plain, double in swaps:
        if plain in text and draw.random() < 0.2:
            text = text.replace(plain, double)
    return text


class Cache:
    """The three tiers over what was generated so far."""

    def __init__(self) -> None:
        self.exact: dict[str, Scene] = {}
        self.canonical: dict[str, Scene] = {}
        self.prompts: list[tuple[str, Scene]] = []
        self.vectors = np.empty((0, minilm.DIM), dtype=np.float32)

    def ask(self, prompt: str) -> tuple[str, Scene | None]:
        """The tier that answers, and whose picture it serves."""
        key, canonical = fingerprint.normalise(prompt, case_sensitive=False), form.of(prompt)
        if key in self.exact:
            return "exact", self.exact[key]
        if canonical in self.canonical:
            return "canonical", self.canonical[canonical]
        self.last = np.array(minilm.shared().embed([prompt])[0], dtype=np.float32)
        if len(self.prompts):
            similar = self.vectors @ self.last
            for index in np.argsort(-similar)[:5]:
                other, scene = self.prompts[int(index)]
                if guard.judge(prompt, other, float(similar[index])).served:
                    return "semantic", scene
        return "miss", None

    def keep(self, prompt: str, scene: Scene) -> None:
        """After a miss: what was generated for the prompt just asked."""
        self.exact[fingerprint.normalise(prompt, case_sensitive=False)] = scene
        self.canonical[form.of(prompt)] = scene
        self.prompts.append((prompt, scene))
        self.vectors = np.vstack([self.vectors, self.last])


def replay(requests: int, distinct: int, seed: int) -> tuple[Counter[str], int]:
    """How often each tier answered, and how many answers showed another scene."""
    draw = random.Random(seed)
    known = scenes(draw, distinct)
    weights = list(accumulate(1 / rank**_EXPONENT for rank in range(1, len(known) + 1)))
    cache, tiers, wrong = Cache(), Counter[str](), 0
    for scene in draw.choices(known, cum_weights=weights, k=requests):
        prompt = worded(draw, scene)
        tier, served = cache.ask(prompt)
        tiers[tier] += 1
        if served is None:
            cache.keep(prompt, scene)
        wrong += served is not None and served != scene
    return tiers, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--scenes", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun = time.perf_counter()
    tiers, wrong = replay(options.requests, options.scenes, options.seed)
    hits = options.requests - tiers["miss"]
    for tier in ("exact", "canonical", "semantic", "miss"):
        print(f"{tier:10}{tiers[tier]:8}{tiers[tier] / options.requests:8.1%}")
    print(f"hits {hits / options.requests:.1%}, right {1 - wrong / max(hits, 1):.3%} ({wrong} wrong)")
    print(f"{time.perf_counter() - begun:.0f} s")
    return int(hits / options.requests < 0.75 or wrong / max(hits, 1) > 0.001)


if __name__ == "__main__":
    sys.exit(main())

"""Whether a look-alike may be served: a hard veto first, then a learned guard over what little is left to differ.

The veto is written by hand, so that no training data can teach it away. The guard is a logistic regression with its
coefficients in `guard.json`, made by `python -m apps.caching.semantic.train`; docs/reference/semantic-guard.md is
its card.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from apps.caching.semantic import features

_FILE = Path(__file__).with_name("guard.json")

# Any of these is another picture.
VETOES = (
    "lost", "numbers", "negations", "quotes", "strong_relations", "replaced_relations", "bindings", "roles", "postures",
    "plurals", "exchanged", "doubled",
)  # fmt: skip
# Counts beyond this say no more.
_CAP = 4.0


@dataclass(frozen=True, slots=True)
class Guard:
    """`weights` of the features as they are counted; `threshold`: the probability from which on a pair is served."""

    version: str
    floor: float
    threshold: float
    intercept: float
    weights: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`signature` names what differs, whatever the prompts: verdicts of users are pooled by it."""

    served: bool
    probability: float
    vetoes: tuple[str, ...]
    signature: str


@cache
def current() -> Guard:
    """The coefficients of this version."""
    data = json.loads(_FILE.read_text(encoding="utf-8"))
    return Guard(
        version=data["version"],
        floor=data["floor"],
        threshold=data["threshold"],
        intercept=data["intercept"],
        weights=data["weights"],
    )


def judge(prompt_a: str, prompt_b: str, cosine: float, guard: Guard | None = None) -> Verdict:
    """Whether what was made for one prompt may be served for the other. Pure; about a millisecond."""
    guard = guard or current()
    found = features.of(prompt_a, prompt_b, cosine)
    vetoes = tuple(name for name in VETOES if found[name])
    chance = probability(found, guard)
    served = not vetoes and cosine >= guard.floor and chance >= guard.threshold
    return Verdict(served, chance, vetoes, signature(found))


def probability(found: Mapping[str, float], guard: Guard) -> float:
    """Of the two prompts asking for the same picture, in the proportions of the training data."""
    score = guard.intercept + sum(weight * min(found[name], _CAP) for name, weight in guard.weights.items())
    return 1.0 / (1.0 + math.exp(-max(-40.0, min(40.0, score))))


def signature(found: Mapping[str, float]) -> str:
    """The kinds of difference, by name: at most 200 characters."""
    named = [
        name for name in features.NAMES if name not in ("cosine", "length", "crossings") and found[name] > 0
    ]
    return "+".join(named)[:200] or "same words"

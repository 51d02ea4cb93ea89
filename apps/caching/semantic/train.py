"""Fits the guard: `python -m apps.caching.semantic.train PAIRS.tsv`. The same file gives the same coefficients.

Logistic regression with L2, by Newton's method (Hastie, Tibshirani, Friedman: The Elements of Statistical Learning,
section 4.4.1). The pairs are weighted so that each kind counts the same: the guard learns kinds and not how often
somebody made a row of them. The threshold is the lowest at which, with each source held out in turn, at most one of
MAX_WRONG hard negatives passes guard and veto; it never falls below MIN_THRESHOLD.
"""

import csv
import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps.caching.semantic import features, guard, minilm

Floats = NDArray[np.float64]

FLOOR = 0.75
MAX_WRONG = 1000
MIN_THRESHOLD = 0.5
_L2 = 1.0
_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class Pair:
    """A labelled pair with its features; `same`: both prompts ask for one picture."""

    same: bool
    kind: str
    source: str
    found: dict[str, float]


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a TSV with the columns prompt_a, prompt_b, label (1: same picture), kind, source."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def cosines(rows: Sequence[dict[str, str]]) -> list[float]:
    """Of each row's two prompts, by the model of this process."""
    texts = sorted(
        {row[name] for row in rows for name in ("prompt_a", "prompt_b")}, key=lambda text: (len(text), text)
    )
    vectors = dict(zip(texts, minilm.shared().embed(texts), strict=True))
    return [float(np.dot(vectors[row["prompt_a"]], vectors[row["prompt_b"]])) for row in rows]


def pairs(rows: Sequence[dict[str, str]]) -> list[Pair]:
    """The rows with their features."""
    return [
        Pair(
            same=row["label"] == "1",
            kind=row["kind"],
            source=row["source"],
            found=features.of(row["prompt_a"], row["prompt_b"], cosine),
        )
        for row, cosine in zip(rows, cosines(rows), strict=True)
    ]


def reworded(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The hard negatives in other words: of a prompt that has both, each human paraphrase with each hard negative.

    They are never learnt from. In minimal edits a guard may take any rewording for the same picture; here it can't.
    """
    same, other = defaultdict(set), defaultdict(set)
    for row in rows:
        for one, two in ((row["prompt_a"], row["prompt_b"]), (row["prompt_b"], row["prompt_a"])):
            if row["kind"] == "pos_human":
                same[one].add(two)
            elif row["label"] == "0" and row["source"].startswith("SugarCrepe"):
                other[one].add((two, row["kind"], row["source"]))
    found = {
        (paraphrase, negative, kind, source)
        for prompt, paraphrases in same.items()
        for paraphrase in paraphrases
        for negative, kind, source in other.get(prompt, ())
        if negative not in paraphrases | {paraphrase}
    }
    return [
        {"prompt_a": one, "prompt_b": two, "label": "0", "kind": kind, "source": source}
        for one, two, kind, source in sorted(found)
    ]


def fit(data: Sequence[Pair]) -> tuple[float, dict[str, float]]:
    """Intercept and weights."""
    table = np.array([[1.0, *(min(pair.found[name], 4.0) for name in features.NAMES)] for pair in data])
    target = np.array([float(pair.same) for pair in data])
    kinds = Counter((pair.same, pair.kind) for pair in data)
    weight = np.array([len(data) / len(kinds) / kinds[(pair.same, pair.kind)] for pair in data])
    penalty = np.eye(table.shape[1]) * _L2
    penalty[0, 0] = 1e-6
    beta: Floats = np.zeros(table.shape[1])
    for _ in range(_ROUNDS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(table @ beta, -30, 30)))
        slope = table.T @ (weight * (target - chance)) - penalty @ beta
        curve = (table * (weight * chance * (1 - chance))[:, None]).T @ table + penalty
        beta = beta + np.linalg.solve(curve, slope)
    return float(beta[0]), {
        name: round(float(value), 6) for name, value in zip(features.NAMES, beta[1:], strict=True)
    }


def passes(pair: Pair, intercept: float, weights: dict[str, float]) -> float:
    """The probability of a pair that no veto stops, else 0."""
    if any(pair.found[name] for name in guard.VETOES) or pair.found["cosine"] < FLOOR:
        return 0.0
    return guard.probability(pair.found, guard.Guard("", FLOOR, 0.0, intercept, weights))


def held_out(data: Sequence[Pair]) -> list[tuple[Pair, float]]:
    """Each pair with its probability by a guard that never saw its source."""
    found: list[tuple[Pair, float]] = []
    for source in sorted({pair.source for pair in data}):
        intercept, weights = fit([pair for pair in data if pair.source != source])
        found += [(pair, passes(pair, intercept, weights)) for pair in data if pair.source == source]
    return found


def threshold(scored: Sequence[tuple[Pair, float]]) -> float:
    """The lowest that keeps the promise on sources not seen."""
    wrong = sorted((chance for pair, chance in scored if not pair.same), reverse=True)
    allowed = len(wrong) // MAX_WRONG
    return max(MIN_THRESHOLD, round(wrong[allowed] + 0.001, 3) if len(wrong) > allowed else MIN_THRESHOLD)


def without_each_kind(data: Sequence[Pair], at: float) -> dict[str, float]:
    """Negative kind → the share of it served by a guard trained without it."""
    shares = {}
    for kind in sorted({pair.kind for pair in data if not pair.same}):
        intercept, weights = fit([pair for pair in data if pair.kind != kind])
        chances = [passes(pair, intercept, weights) for pair in data if pair.kind == kind]
        shares[kind] = round(sum(chance >= at for chance in chances) / len(chances), 5)
    return shares


def card(data: Sequence[Pair], others: Sequence[Pair], digest: str) -> dict[str, Any]:
    """What is kept: the coefficients, and the figures that the documentation quotes. `others`: reworded negatives."""
    scored = held_out(data)
    at = threshold(scored)
    intercept, weights = fit(data)
    served = Counter((pair.same, pair.kind) for pair, chance in scored if chance >= at)
    total = Counter((pair.same, pair.kind) for pair in data)
    wrong = Counter(pair.kind for pair in others if passes(pair, intercept, weights) >= at)
    of = Counter(pair.kind for pair in others)
    return {
        "version": "1",
        "floor": FLOOR,
        "threshold": at,
        "intercept": round(intercept, 6),
        "weights": weights,
        "embedder": minilm.shared().id,
        "trained_on": {"pairs": len(data), "sha256": digest},
        "served_with_source_held_out": {
            kind: f"{served[(same, kind)]} of {count}" for (same, kind), count in sorted(total.items())
        },
        "served_with_kind_held_out": without_each_kind(data, at),
        "served_of_reworded_negatives": {
            kind: f"{wrong[kind]} of {count}" for kind, count in sorted(of.items())
        },
    }


def main(path: Path) -> None:
    rows = read(path)
    result = card(pairs(rows), pairs(reworded(rows)), hashlib.sha256(path.read_bytes()).hexdigest())
    target = Path(guard.__file__).with_name("guard.json")
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"{target}: threshold {result['threshold']}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

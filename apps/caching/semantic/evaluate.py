"""How well the tiers tell the same picture from another one, on labelled pairs."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import quantiles

from apps.caching import fingerprint
from apps.caching.canonical import form
from apps.caching.semantic import guard

TIERS = ("exact", "canonical", "semantic", "all")


@dataclass(frozen=True, slots=True)
class Pair:
    """`same`: both ask for one picture. `cosine`: None without an embedder."""

    one: str
    other: str
    same: bool
    kind: str
    cosine: float | None


@dataclass(slots=True)
class Score:
    """Of one tier: how many of each kind it serves, and how long it takes to decide, ms."""

    served: Counter[tuple[bool, str]] = field(default_factory=Counter)
    took_ms: list[float] = field(default_factory=list)

    def rate(self, total: Counter[tuple[bool, str]], *, same: bool) -> float:
        """The share served of all pairs with that label."""
        of = sum(count for key, count in total.items() if key[0] == same)
        return sum(count for key, count in self.served.items() if key[0] == same) / of if of else 0.0

    @property
    def precision(self) -> float:
        """The share of what it serves that is right; 1 if it serves nothing."""
        right = sum(count for key, count in self.served.items() if key[0])
        return right / (self.served.total() or 1) if right else float(not self.served.total())

    @property
    def p95_ms(self) -> float:
        return quantiles(self.took_ms, n=20)[-1] if len(self.took_ms) > 1 else 0.0


def scores(pairs: Sequence[Pair]) -> tuple[dict[str, Score], Counter[tuple[bool, str]]]:
    """The score of each tier and of all together, and how many pairs there are of each label and kind."""
    found = {name: Score() for name in TIERS}
    total = Counter((pair.same, pair.kind) for pair in pairs)
    for pair in pairs:
        answers = []
        for name, decide in _DECIDE.items():
            begun = time.perf_counter()
            serves = decide(pair)
            found[name].took_ms.append((time.perf_counter() - begun) * 1000)
            found[name].served[pair.same, pair.kind] += serves
            answers.append(serves)
        found["all"].served[pair.same, pair.kind] += any(answers)
    return found, total


def _exact(pair: Pair) -> bool:
    one, other = (fingerprint.normalise(text, case_sensitive=False) for text in (pair.one, pair.other))
    return one == other


def _canonical(pair: Pair) -> bool:
    return form.of(pair.one) == form.of(pair.other)


def _semantic(pair: Pair) -> bool:
    return pair.cosine is not None and guard.judge(pair.one, pair.other, pair.cosine).served


_DECIDE: dict[str, Callable[[Pair], bool]] = {
    "exact": _exact,
    "canonical": _canonical,
    "semantic": _semantic,
}


def report(
    found: dict[str, Score], total: Counter[tuple[bool, str]], embed_p95_ms: float | None
) -> Iterator[str]:
    """Lines to print. Latencies without the database; the embedding of one prompt is told apart."""
    yield f"{'served, %':34}{'pairs':>7}" + "".join(f"{name:>11}" for name in TIERS)
    for same, kind in sorted(total):
        count = total[same, kind]
        shares = "".join(f"{100 * found[name].served[same, kind] / count:11.2f}" for name in TIERS)
        yield f"{'same  ' if same else 'other '}{kind:28}{count:7}{shares}"
    rows: dict[str, Callable[[Score], float]] = {
        "recall (served of the same), %": lambda score: 100 * score.rate(total, same=True),
        "wrong (served of the others), %": lambda score: 100 * score.rate(total, same=False),
        "precision, %": lambda score: 100 * score.precision,
        "decision p95, ms": lambda score: score.p95_ms,
    }
    for name, value in rows.items():
        yield f"{name:41}" + "".join(f"{value(found[tier]):11.3f}" for tier in TIERS)
    yield f"embedding p95, ms: {'no embedder' if embed_p95_ms is None else f'{embed_p95_ms:.1f}'}"

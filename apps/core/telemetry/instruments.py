"""Every instrument of the platform, by name. Rooms declare theirs in `metrics.py` and record by OpenTelemetry's API.

Two kinds: what a process counts as it happens (`counter`, `histogram`), and what is counted from rows by whoever
answers for the whole deployment (`of_rows`): jobs, money, queues.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import repeat
from typing import Final, Literal, TypeAlias

from opentelemetry import metrics

Kind = Literal["counter", "gauge", "histogram"]
# The values of an instrument's labels, in its order; and what was counted under them: one number, or of a histogram
# the sum and the count of each bucket, the last one beyond all bounds.
Labels: TypeAlias = tuple[str, ...]
Totals: TypeAlias = dict[tuple[str, Labels], list[float]]

OTHER: Final = "other"
# Seconds: from a cached answer to a long video.
DURATIONS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
# Seconds: of our own work.
SHORT_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SCORES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


@dataclass(frozen=True, slots=True)
class Instrument:
    """`bounds`: upper ends of a histogram's buckets. `rows`: counted from rows, for the whole deployment."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()
    rows: bool = False

    @property
    def size(self) -> int:
        """How many numbers are kept for each combination of labels."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1

    @property
    def exposed(self) -> str:
        """The name in Prometheus, by OpenTelemetry's rules (specification, "Prometheus and OpenMetrics
        Compatibility"): dots become underscores, a counter ends in `_total`. Units are part of our names already."""
        plain = self.name.replace(".", "_")
        return f"{plain}_total" if self.kind == "counter" and not plain.endswith("_total") else plain


KNOWN: Final[dict[str, Instrument]] = {}
_meter = metrics.get_meter("genplatform")


def counter(name: str, meaning: str, *, labels: tuple[str, ...] = (), unit: str = "1") -> metrics.Counter:
    """Counts what this process does: `COUNTER.add(1, {label: value})`."""
    _declare(Instrument(name, "counter", unit, meaning, labels))
    return _meter.create_counter(name, unit, meaning)


def histogram(
    name: str, meaning: str, *, bounds: tuple[float, ...], labels: tuple[str, ...] = (), unit: str = "s"
) -> metrics.Histogram:
    """Measures what this process does: `HISTOGRAM.record(seconds, {label: value})`."""
    _declare(Instrument(name, "histogram", unit, meaning, labels, bounds))
    return _meter.create_histogram(name, unit, meaning, explicit_bucket_boundaries_advisory=bounds)


def of_rows(
    kind: Kind,
    name: str,
    meaning: str,
    *,
    labels: tuple[str, ...] = (),
    unit: str = "1",
    bounds: tuple[float, ...] = (),
) -> Instrument:
    """Counted from rows. Bounds are for good: what was counted under others can't be told apart any more, so others
    need another name."""
    return _declare(Instrument(name, kind, unit, meaning, labels, bounds, rows=True))


def labelled(instrument: Instrument, attributes: Mapping[str, object] | None) -> Labels:
    """The values in the instrument's order; of a label that is not given the empty one."""
    given = attributes or {}
    return tuple([str(given.get(label, "")) for label in instrument.labels])


def readings(gauges: Mapping[Instrument, Decimal]) -> Totals:
    """Of gauges without labels. Money is a float from here on: nobody pays by a metric."""
    return {(gauge.name, ()): [float(value)] for gauge, value in gauges.items()}


def add(into: Totals, counted: Totals) -> None:
    """Adds what was counted elsewhere."""
    for key, values in counted.items():
        own = into.get(key)
        into[key] = list(values) if own is None else [a + b for a, b in zip(own, values, strict=False)]


def observe(into: Totals, instrument: Instrument, labels: Labels, value: float) -> None:
    """Adds one observation of a histogram, or `value` to a counter."""
    kept = into.setdefault((instrument.name, labels), list(repeat(0.0, instrument.size)))
    kept[0] += value
    if instrument.kind == "histogram":
        kept[1 + bucket(instrument.bounds, value)] += 1


def bucket(bounds: Iterable[float], value: float) -> int:
    """The first bucket whose bound is not below the value."""
    for index, bound in enumerate(bounds):
        if value <= bound:
            return index
    return index + 1


def _declare(instrument: Instrument) -> Instrument:
    if KNOWN.setdefault(instrument.name, instrument) != instrument:
        raise ValueError(f"{instrument.name} is declared twice")
    return instrument

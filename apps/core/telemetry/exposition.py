"""The text that Prometheus reads (exposition format 0.0.4)."""

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Final

from apps.core.telemetry.instruments import KNOWN, Instrument, Labels, Totals

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def text(totals: Totals) -> str:
    """All series of the instruments we know. One that was counted with other bounds is left out."""
    by_name: defaultdict[str, list[tuple[Labels, list[float]]]] = defaultdict(list)
    for (name, labels), values in totals.items():
        instrument = KNOWN.get(name)
        if instrument and len(values) == instrument.size and len(labels) == len(instrument.labels):
            by_name[name].append((labels, values))
    lines: list[str] = []
    for name in sorted(by_name):
        instrument = KNOWN[name]
        lines += [
            f"# HELP {instrument.exposed} {instrument.meaning}",
            f"# TYPE {instrument.exposed} {instrument.kind}",
        ]
        for labels, values in sorted(by_name[name]):
            lines += _series(instrument, labels, values)
    return "\n".join([*lines, ""])


def _series(instrument: Instrument, labels: Labels, values: list[float]) -> Iterator[str]:
    pairs = [
        f'{name}="{value.translate(_ESCAPES)}"' for name, value in zip(instrument.labels, labels, strict=True)
    ]
    name, plain = instrument.exposed, ",".join(pairs)
    braces = f"{{{plain}}}" if plain else ""
    if instrument.kind != "histogram":
        yield f"{name}{braces} {_number(values[0])}"
        return
    reached, before = 0.0, f"{name}_bucket{{{plain}{',' if plain else ''}le="
    for bound, count in zip(_bounds(instrument), values[1:], strict=True):
        reached += count
        yield f"{before}{bound} {int(reached)}"
    yield f"{name}_sum{braces} {_number(values[0])}"
    yield f"{name}_count{braces} {int(reached)}"


@cache
def _bounds(instrument: Instrument) -> list[str]:
    """How the buckets are called, the last one too."""
    return [f'"{_number(bound)}"}}' for bound in (*instrument.bounds, float("inf"))]


def _number(value: float) -> str:
    value = float(value)
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value.is_integer() else repr(value)

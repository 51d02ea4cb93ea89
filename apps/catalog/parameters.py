"""What the parameters of a request mean: which a model takes, in which bounds, and what it takes for none."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from apps.core.errors import InvalidRequest

# The limits of a model, by the parameter they bound. A parameter whose limit is absent is not offered.
RANGES = {"width": "max_width", "height": "max_height", "n": "max_n", "duration_s": "max_duration_s"}
CHOICES = {"resolution": "resolutions", "aspect_ratio": "aspect_ratios", "voice": "voices"}
# What bounds width and height together: their area, or the only sizes there are ("1024x1536").
LIMITS = {*RANGES.values(), *CHOICES.values(), "max_megapixels", "sizes"}

# The largest seed every provider accepts.
MAX_SEED = 2**31 - 1
_MIN_SIDE = 64
_MAX_NEGATIVE_PROMPT = 2000
_INTEGERS = ("width", "height", "n")


def resolve(
    given: Mapping[str, Any], *, kind: str, limits: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """`given` with the defaults filled in, all within the limits; a null counts as not given.

    Raises InvalidRequest that names every bad field (`params.width`, …).
    """
    named = {name: value for name, value in given.items() if value is not None}
    resolved = {"n": 1, **defaults, **named}
    errors = [*_errors(resolved, offered(kind, limits), limits)] or [*_area_errors(resolved, limits)]
    if errors:
        raise InvalidRequest(f"{errors[0]['field']}: {errors[0]['message']}", errors=errors)
    return {name: _plain(value) for name, value in resolved.items()}


def offered(kind: str, limits: Mapping[str, Any]) -> tuple[str, ...]:
    """What a model with these limits takes: `n` (one, unless it says more), what they bound, and a seed."""
    limited = [name for name, limit in (RANGES | CHOICES).items() if limit in limits]
    common = ["seed"] if kind == "audio" else ["seed", "negative_prompt"]
    return tuple(dict.fromkeys(["n", *limited, *common]))


def _errors(
    resolved: Mapping[str, Any], names: tuple[str, ...], limits: Mapping[str, Any]
) -> Iterator[dict[str, str]]:
    for name, value in resolved.items():
        if name not in names:
            yield _error(name, f"the model takes {', '.join(names)}", "unknown")
        elif message := _fault(name, value, limits):
            yield _error(name, message, "invalid")


def _fault(name: str, value: Any, limits: Mapping[str, Any]) -> str | None:
    """What is wrong with one parameter that the model offers, if anything."""
    if name in RANGES:
        lowest = _MIN_SIDE if name in ("width", "height") else 1
        return _range_fault(value, lowest, limits.get(RANGES[name], 1), whole=name in _INTEGERS)
    if name in CHOICES:
        choices = limits[CHOICES[name]]
        return None if value in choices else f"is one of {', '.join(choices)}"
    if name == "seed":
        return _range_fault(value, 0, MAX_SEED, whole=True)
    return _text_fault(value)


def _range_fault(value: Any, lowest: int, highest: float, *, whole: bool) -> str | None:
    number = not isinstance(value, bool) and isinstance(value, int if whole else int | float | Decimal)
    # NaN is the number that differs from itself (and a Decimal NaN raises when it is compared by size).
    if number and value == value and lowest <= value <= highest:
        return None
    return f"is {'a whole number' if whole else 'a number'} from {lowest} to {highest}"


def _text_fault(value: Any) -> str | None:
    if not isinstance(value, str) or len(value) > _MAX_NEGATIVE_PROMPT:
        return f"is text of at most {_MAX_NEGATIVE_PROMPT} characters"
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        return "holds a character that is no text"
    return None


def _area_errors(params: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    size, sizes = f"{params.get('width')}x{params.get('height')}", limits.get("sizes")
    if sizes and size not in sizes:
        for name in ("width", "height"):
            yield _error(name, f"width x height is one of {', '.join(sizes)}", "invalid")
    limit = limits.get("max_megapixels")
    if limit and params.get("width", 0) * params.get("height", 0) > Decimal(str(limit)) * 1_000_000:
        for name in ("width", "height"):
            yield _error(name, f"width × height is at most {limit} megapixels", "invalid")


def _error(name: str, message: str, code: str) -> dict[str, str]:
    return {"field": f"params.{name}", "message": message, "code": code}


def _plain(value: Any) -> Any:
    """5.0 as 5: one meaning, one fingerprint."""
    whole = isinstance(value, float | Decimal) and value == int(value)
    return int(value) if whole else float(value) if isinstance(value, Decimal) else value

"""The rules of a price: by what a request's parameters multiply it. Pure, and readable in the catalog file.

A rule belongs to a parameter, or to `size` ("1024x1536") or `megapixels`, which follow from width and height:

    resolution: {1080p: "1.5"}                  by value; any other counts once
    size: {1024x1024: "1056", else: "6240"}     ... or as `else` says
    duration_s: {above: "5", per: "5"}          duration / 5 times above 5 s (the article's CostOptimizer)
    megapixels: {steps: {"1": "1", "2": "2"}}   up to 1 megapixel once, up to 2 twice; the last one ends what is offered

Numbers are strings: nothing on the way to an amount is a float.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from apps.catalog.parameters import CHOICES

WORDS = {*CHOICES, "size"}
# What is counted, by the limit that ends it.
NUMBERS = {
    "duration_s": "max_duration_s",
    "width": "max_width",
    "height": "max_height",
    "megapixels": "max_megapixels",
}
_SIDES = {"width", "height"}
_MEGA = 1_000_000

Rules = Mapping[str, Mapping[str, Any]]


def factors(rules: Rules, params: Mapping[str, Any]) -> dict[str, Decimal]:
    """By what each rule multiplies the price of a request; those that change nothing are left out.

    Raises ValueError above the last step: such a price is not known, and `gaps` keeps its route from being offered.
    """
    found = {name: _factor(name, rule, params) for name, rule in rules.items()}
    return {name: factor for name, factor in found.items() if factor != 1}


def faults(rules: Any) -> Iterator[str]:
    """What is wrong with rules that somebody wrote."""
    if not isinstance(rules, dict):
        yield 'rules are an object, e.g. {"resolution": {"1080p": "1.5"}}'
        return
    for name, rule in rules.items():
        if name not in WORDS | set(NUMBERS):
            yield f"{name}: a rule is for one of {', '.join(sorted(WORDS | set(NUMBERS)))}"
        elif not isinstance(rule, dict) or not rule or not all(isinstance(key, str) for key in rule):
            yield f"{name}: a rule is an object with text for keys"
        elif not _is_well_formed(name, rule):
            form = "by value" if name in WORDS else "above and per, or steps"
            yield f"{name}: a rule {form}, each number positive and written as text"


def gaps(rules: Rules, *, limits: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """For which requests of a model with these limits and defaults the rules give no price."""
    for name, rule in rules.items():
        counted = _SIDES if name in ("megapixels", "size") else {name}
        if name in NUMBERS and not counted <= set(defaults):
            yield f"no default for {name}"
        if name in NUMBERS and (steps := rule.get("steps")):
            limit = limits.get(NUMBERS[name])
            if limit is None or Decimal(str(limit)) > max(map(Decimal, steps)):
                yield f"{name} goes beyond the last step"


def _factor(name: str, rule: Mapping[str, Any], params: Mapping[str, Any]) -> Decimal:
    if name in WORDS:
        return Decimal(rule.get(str(_value(name, params)), rule.get("else", "1")))
    value = Decimal(str(_value(name, params)))
    if "above" in rule:
        return value / Decimal(rule["per"]) if value > Decimal(rule["above"]) else Decimal(1)
    for step in sorted(rule["steps"], key=Decimal):
        if value <= Decimal(step):
            return Decimal(rule["steps"][step])
    raise ValueError(f"{name} of {value} is beyond the last step")


def _value(name: str, params: Mapping[str, Any]) -> Any:
    match name:
        case "size":
            return f"{params.get('width')}x{params.get('height')}"
        case "megapixels":
            return Decimal(params["width"] * params["height"]) / _MEGA
        case _:
            return params.get(name)


def _is_well_formed(name: str, rule: dict[str, Any]) -> bool:
    if name in WORDS:
        return all(map(is_positive, rule.values()))
    if set(rule) == {"above", "per"}:
        return all(map(is_positive, rule.values()))
    steps = rule.get("steps")
    return (
        set(rule) == {"steps"}
        and isinstance(steps, dict)
        and bool(steps)
        and all(is_positive(number) for step in steps.items() for number in step)
    )


def is_positive(text: Any) -> bool:
    """Whether it is a positive decimal written as text."""
    try:
        return isinstance(text, str) and Decimal(text).is_finite() and Decimal(text) > 0
    except ArithmeticError:
        return False

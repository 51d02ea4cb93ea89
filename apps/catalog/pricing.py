"""What a request means in a model's terms, and what it costs: exact decimals, rounded once per charge."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from apps.catalog.models import CHOICES, RANGES, GenerationModel, Price
from apps.catalog.snapshot import ModelInfo, PriceInfo
from apps.core import money
from apps.core.errors import InvalidRequest

# The largest seed every provider accepts.
MAX_SEED = 2**31 - 1
_MIN_SIDE = 64
_MAX_NEGATIVE_PROMPT = 2000
_INTEGERS = ("width", "height", "n")

Unit = Price.Unit


@dataclass(frozen=True, slots=True)
class RoutePrice:
    route_id: uuid.UUID
    provider: str
    provider_model: str
    price_id: uuid.UUID
    price_version: int
    amount_usd: Decimal


@dataclass(frozen=True, slots=True)
class Quote:
    """`estimated_usd` is by the first route, `upper_bound_usd` by the dearest; `routes` as they are tried."""

    estimated_usd: Decimal
    upper_bound_usd: Decimal
    breakdown: dict[str, str]
    routes: tuple[RoutePrice, ...]


def quote(model: ModelInfo, *, params: Mapping[str, Any], prompt: str) -> Quote:
    """The cost of `params` (resolved) by each route of `model`, which has at least one."""
    routes = tuple(
        RoutePrice(
            route_id=route.id,
            provider=route.provider,
            provider_model=route.provider_model,
            price_id=route.price.id,
            price_version=route.price.version,
            amount_usd=_charge(route.price, params, prompt),
        )
        for route in model.routes
    )
    return Quote(
        estimated_usd=routes[0].amount_usd,
        upper_bound_usd=max(route.amount_usd for route in routes),
        breakdown=_breakdown(model.routes[0].price, params, prompt),
        routes=routes,
    )


def resolve(model: ModelInfo, params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with the model's defaults filled in, all within its limits; a null counts as not given.

    Raises InvalidRequest that names every bad field (`params.width`, …).
    """
    given = {name: value for name, value in params.items() if value is not None}
    offered = offered_params(model)
    errors = [
        _error(name, f"{model.slug} takes {', '.join(offered)}", "unknown")
        for name in given
        if name not in offered
    ]
    resolved = {"n": 1, **model.defaults, **given}
    errors += [
        _error(name, message, "invalid")
        for name, value in resolved.items()
        if name in offered and (message := _fault(name, value, model.limits))
    ]
    if not errors:
        errors = list(_area_errors(resolved, model.limits))
    if errors:
        raise InvalidRequest(f"{errors[0]['field']}: {errors[0]['message']}", errors=errors)
    return {name: _plain(value) for name, value in resolved.items()}


def offered_params(model: ModelInfo) -> tuple[str, ...]:
    """The names `params` may have for this model: those its limits speak of, and what all of a kind take."""
    limited = [name for name, limit in (RANGES | CHOICES).items() if limit in model.limits]
    if model.kind == GenerationModel.Kind.AUDIO:
        return (*limited, "seed")
    return (*limited, "seed", "negative_prompt")


def _charge(price: PriceInfo, params: Mapping[str, Any], prompt: str) -> Decimal:
    with localcontext(prec=100):  # exact: the only rounding is the one to an amount
        return money.amount(
            price.unit_price_usd * _quantity(price.unit, params, prompt) * _factor(price, params)
        )


def _quantity(unit: str, params: Mapping[str, Any], prompt: str) -> Decimal:
    """How many units all outputs of a request are together."""
    n = Decimal(params.get("n", 1))
    match unit:
        case Unit.REQUEST:
            return Decimal(1)
        case Unit.IMAGE:
            return n
        case Unit.MEGAPIXEL:
            return n * Decimal(params["width"] * params["height"]) / 1_000_000
        case Unit.SECOND:
            return n * Decimal(str(params["duration_s"]))
        case Unit.CHARACTER:
            return n * len(prompt)
        case Unit.THOUSAND_CHARACTERS:
            return n * len(prompt) / 1000
    raise ValueError(f"unknown unit {unit!r}")


def _factor(price: PriceInfo, params: Mapping[str, Any]) -> Decimal:
    factor = Decimal(1)
    for name, rule in price.multipliers.items():
        factor *= Decimal(rule.get(str(params.get(name)), "1"))
    return factor


def _breakdown(price: PriceInfo, params: Mapping[str, Any], prompt: str) -> dict[str, str]:
    return {
        "unit": price.unit,
        "unit_price_usd": money.text(price.unit_price_usd),
        "quantity": money.text(_quantity(price.unit, params, prompt)),
        "multiplier": money.text(_factor(price, params)),
    }


def _fault(name: str, value: Any, limits: Mapping[str, Any]) -> str | None:
    """What is wrong with one parameter that the model offers, if anything."""
    if name in RANGES:
        lowest = _MIN_SIDE if name in ("width", "height") else 1
        return _range_fault(value, lowest, limits[RANGES[name]], whole=name in _INTEGERS)
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

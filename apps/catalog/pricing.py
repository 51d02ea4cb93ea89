"""What a request costs: exact decimals, rounded once per charge."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from apps.catalog import parameters
from apps.catalog.models import Price
from apps.catalog.snapshot import ModelInfo, PriceInfo
from apps.core import money

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


def resolve(model: ModelInfo, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that `model` is run with. Raises InvalidRequest that names every bad field."""
    return parameters.resolve(given, kind=model.kind, limits=model.limits, defaults=model.defaults)


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

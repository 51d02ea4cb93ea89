"""What a request costs: exact decimals, rounded once per charge."""

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from apps.catalog import parameters, rules
from apps.catalog.models import GenerationModel, Price
from apps.catalog.snapshot import ModelInfo, PriceInfo, RouteInfo
from apps.core import money

Unit, Routing = Price.Unit, GenerationModel.Routing


@dataclass(frozen=True, slots=True)
class RoutePrice:
    """`amount_usd` is what is quoted; `single_usd` what the provider takes for the order outside a batch."""

    route_id: uuid.UUID
    provider: str
    provider_model: str
    price_id: uuid.UUID
    price_version: int
    amount_usd: Decimal
    single_usd: Decimal


@dataclass(frozen=True, slots=True)
class Quote:
    """`estimated_usd` is by the first of the `routes`, `upper_bound_usd` by the dearest.

    `breakdown`, of the first: (`unit_price_usd` * `quantity` * `multiplier` + `prompt_usd`) * (1 - `discount`), where
    `quantity` is that of all `count` outputs and `multiplier` the product of `multipliers`.
    """

    estimated_usd: Decimal
    upper_bound_usd: Decimal
    breakdown: dict[str, Any]
    routes: tuple[RoutePrice, ...]


def quote(model: ModelInfo, *, params: Mapping[str, Any], prompt: str, batch: bool = False) -> Quote:
    """The cost of `params` (resolved) by each route of `model`, which has at least one, in the order of its routing.

    `batch`: that it is made in a batch, at the price's discount for that.
    """
    charged = [
        (_charge(route.price, params, prompt, batch=batch), position, route)
        for position, route in enumerate(model.routes)
    ]
    if model.routing == Routing.CHEAPEST:
        charged.sort(key=lambda charge: charge[:2])
    elif model.routing == Routing.FASTEST:
        charged.sort(key=lambda charge: (_usual_s(charge[2], model), charge[1]))
    elif model.routing == Routing.WEIGHTED:
        charged.sort(key=lambda charge: (-charge[2].weight, charge[1]))
    routes = tuple(
        _route_price(
            route, amount_usd, _charge(route.price, params, prompt, batch=False) if batch else amount_usd
        )
        for amount_usd, _, route in charged
    )
    return Quote(
        estimated_usd=routes[0].amount_usd,
        upper_bound_usd=max(route.amount_usd for route in routes),
        breakdown=_breakdown(charged[0][2].price, params, prompt, batch=batch),
        routes=routes,
    )


def resolve(model: ModelInfo, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that `model` is run with. Raises InvalidRequest that names every bad field."""
    return parameters.resolve(given, kind=model.kind, limits=model.limits, defaults=model.defaults)


def _usual_s(route: RouteInfo, model: ModelInfo) -> float:
    """A route that nothing is known of counts as fast as the catalog expects."""
    measured = route.stats.p50_s if route.stats else None
    return model.expected_s_p50 if measured is None else measured


def _route_price(route: RouteInfo, amount_usd: Decimal, single_usd: Decimal) -> RoutePrice:
    return RoutePrice(
        route_id=route.id,
        provider=route.provider,
        provider_model=route.provider_model,
        price_id=route.price.id,
        price_version=route.price.version,
        amount_usd=amount_usd,
        single_usd=single_usd,
    )


def _charge(price: PriceInfo, params: Mapping[str, Any], prompt: str, *, batch: bool) -> Decimal:
    with localcontext(prec=100):  # exact: the only rounding is the one to an amount
        outputs_usd = price.unit_price_usd * _quantity(price.unit, params, prompt)
        for factor in rules.factors(price.multipliers, params).values():
            outputs_usd *= factor
        discount = price.batch_discount if batch else 0
        return money.amount((outputs_usd + _prompt_usd(price, prompt)) * (1 - discount))


def _prompt_usd(price: PriceInfo, prompt: str) -> Decimal:
    """At most: a tokenizer over bytes never makes more tokens than there are bytes."""
    return price.prompt_token_usd * len(prompt.encode()) if price.prompt_token_usd else Decimal(0)


def _quantity(unit: str, params: Mapping[str, Any], prompt: str) -> Decimal:
    """How many units all outputs of a request are together."""
    n = Decimal(params.get("n", 1))
    match unit:
        case Unit.REQUEST:
            return Decimal(1)
        case Unit.IMAGE | Unit.TOKEN:  # how many tokens an image has is said by the price's rules
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


def _breakdown(price: PriceInfo, params: Mapping[str, Any], prompt: str, *, batch: bool) -> dict[str, Any]:
    with localcontext(prec=100):
        multipliers = rules.factors(price.multipliers, params)
        multiplier = math.prod(multipliers.values(), start=Decimal(1))
        return {
            "unit": price.unit,
            "unit_price_usd": money.text(price.unit_price_usd),
            "quantity": money.text(_quantity(price.unit, params, prompt)),
            "count": params.get("n", 1),
            "multipliers": {name: money.text(factor) for name, factor in multipliers.items()},
            "multiplier": money.text(multiplier),
            "prompt_usd": money.text(_prompt_usd(price, prompt)),
            "discount": money.text(price.batch_discount if batch else Decimal(0)),
        }

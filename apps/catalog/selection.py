"""Which model serves a request: the one asked for, or the one that is good enough at the least expected cost.

Every model is priced for the request at hand. The expected cost is that price ÷ the part of recent attempts that gave
a result: a route that fails every second time costs a second order as often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

from apps.accounts import regions
from apps.accounts.caller import Limits
from apps.catalog import pricing, snapshot
from apps.catalog.errors import (
    ModelNotAllowed,
    ModelNotFound,
    ModelNotLicensed,
    ModelRefused,
    ModelRetired,
    RequirementsNotMet,
)
from apps.catalog.models import Price
from apps.catalog.snapshot import Catalog, ModelInfo, RouteInfo
from apps.core import clock, money
from apps.core.errors import InvalidRequest

# The quality that an audience needs, when the request does not say.
CONTENT_QUALITY = {"draft": 1, "social": 5, "web": 5, "client": 9, "print": 9}
DEFAULT_QUALITY = 5
_TYPICAL_PROMPT = " " * 1000
# Fewer recent attempts say nothing: the catalog's expectation holds.
ENOUGH_SAMPLES = 20
# A route that never delivers is the last choice, not an endless price.
_LEAST_RATE = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made: `params` as given, neither checked nor filled in. `batch`: priced as made in a batch."""

    kind: str
    prompt: str
    params: Mapping[str, Any] = field(default_factory=dict)
    batch: bool = False


@dataclass(frozen=True, slots=True)
class Requirements:
    """What the model has to meet. `max_latency_s`: 19 of 20 results come within it. `commercial_use`: its licence has
    to allow that."""

    quality: int | None = None
    content_type: str | None = None
    max_cost_usd: Decimal | None = None
    max_latency_s: float | None = None
    commercial_use: bool = False


NONE = Requirements()


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds; `basis`: "recent" attempts, or the "catalog" where there were too few."""

    p50_s: float
    p95_s: float
    basis: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A model for one request: its resolved parameters, their price, and what may be expected."""

    model: ModelInfo
    params: Mapping[str, Any]
    quote: pricing.Quote
    expected_usd: Decimal
    timing: Timing


@dataclass(frozen=True, slots=True)
class Selection:
    """`reason`: a sentence for the client; `alternatives`: other models that would do, at the least cost first."""

    offer: Offer
    reason: str
    alternatives: tuple[Offer, ...]

    @property
    def model(self) -> ModelInfo:
        return self.offer.model


def choose(
    wanted: Wanted,
    *,
    tier: Limits,
    region: str = "",
    model: str | None = None,
    requirements: Requirements = NONE,
    name_field: str = "model",
) -> Selection:
    """`model` if named, else of those that meet the requirements the one of the least expected cost.

    A quality that is only implied (by the content type, or by nothing) is lowered to the best that the tier allows; one
    that is asked for is not. A tier that prefers the cheapest implies none.
    `region`: the country that it is made for, ISO 3166-1, empty if not known.
    `name_field`: where the request names `model`, for the refusal.
    Raises ModelNotFound, ModelRetired, ModelNotAllowed, ModelNotLicensed or RequirementsNotMet, each with
    alternatives, or InvalidRequest if none of the models meant takes the parameters.
    """
    catalog = snapshot.current()
    offered = catalog.offered(wanted.kind)
    allowed = [each for each in offered if is_allowed(each, tier) and is_licensed(each, region)]
    if model is not None:
        found = _named(
            catalog, model, kind=wanted.kind, tier=tier, region=region, allowed=allowed, name_field=name_field
        )
        return _of_named(found, _fitting(catalog, allowed, wanted), wanted, requirements)
    if not allowed:
        raise _none_allowed(catalog, wanted.kind)
    return _cheapest(catalog, allowed, wanted, requirements, lowest=tier.prefers_cheapest)


def is_allowed(model: ModelInfo, tier: Limits) -> bool:
    """Whether users of the tier may have it."""
    return model.quality <= tier.max_quality and (
        not tier.allowed_models or model.slug in tier.allowed_models
    )


def is_licensed(model: ModelInfo, region: str, *, commercial: bool = False) -> bool:
    """Whether its licence allows that use. Where the region is not known, one that leaves regions out does not."""
    if commercial and not model.commercial_use:
        return False
    if not model.excluded_regions:
        return True
    return bool(region) and not regions.includes(model.excluded_regions, region)


def timing(model: ModelInfo, route_id: object = None) -> Timing:
    """How long a result takes by the route, or by the first one."""
    route = next((route for route in model.routes if route.id == route_id), model.routes[0])
    stats = route.stats
    if stats and stats.samples >= ENOUGH_SAMPLES and stats.p50_s is not None and stats.p95_s is not None:
        return Timing(stats.p50_s, stats.p95_s, "recent")
    return Timing(model.expected_s_p50, model.expected_s_p95, "catalog")


def _named(
    catalog: Catalog,
    slug: str,
    *,
    kind: str,
    tier: Limits,
    region: str,
    allowed: Sequence[ModelInfo],
    name_field: str,
) -> ModelInfo:
    """The model of that name. Raises a refusal that names others."""

    def refuse(refusal: type[ModelRefused], why: str, *, successor: str | None = None) -> ModelRefused:
        others = [other for other in _cheapest_first(allowed) if other != slug]
        first = [successor] if successor in others else []
        return refusal(why, alternatives=list(dict.fromkeys([*first, *others])), field=name_field)

    found = catalog.models.get(slug)
    if found is None or found.kind != kind:
        raise refuse(ModelNotFound, f"There is no {kind} model {slug!r}")
    if found.is_retired(clock.now()):
        raise refuse(ModelRetired, f"{slug} is retired", successor=found.successor)
    if not found.routes:
        raise refuse(ModelNotFound, f"{slug} is not offered now")
    if found.quality > tier.max_quality:
        why = f"{slug} has quality {found.quality}; the tier allows up to {tier.max_quality}"
        raise refuse(ModelNotAllowed, why)
    if not is_allowed(found, tier):
        raise refuse(ModelNotAllowed, f"The tier does not allow {slug}")
    if not is_licensed(found, region):
        where = f"in {region}" if region else "everywhere, and the country of your team is not known"
        raise refuse(ModelNotLicensed, f"The licence of {slug} does not allow its use {where}")
    return found


def _of_named(
    found: ModelInfo, offers: Sequence[Offer], wanted: Wanted, requirements: Requirements
) -> Selection:
    own = next((offer for offer in offers if offer.model is found), None)
    if own is None:
        raise _unfit(found, wanted)
    others = tuple(offer for offer in offers if offer.model is not found)
    if why := _unmet(own, requirements):
        met = [offer.model.slug for offer in others if not _unmet(offer, requirements)]
        raise RequirementsNotMet(f"{found.slug} {why}", alternatives=met, field="requirements")
    return Selection(own, "named in the request", others)


def _cheapest(
    catalog: Catalog,
    allowed: Sequence[ModelInfo],
    wanted: Wanted,
    requirements: Requirements,
    *,
    lowest: bool,
) -> Selection:
    needed, reason = _needed(requirements, cheapest=lowest)
    if requirements.quality is None:
        needed = min(needed, max(model.quality for model in allowed))
    good = [model for model in allowed if model.quality >= needed]
    if not good:
        raise _none_good_enough(catalog, wanted.kind, needed, allowed)
    offers = _fitting(catalog, good, wanted)
    if not offers:
        raise _unfit(min(good, key=typical_usd), wanted)
    fit = [offer for offer in offers if not _unmet(offer, requirements)]
    if not fit:
        why = _unmet(offers[0], requirements)
        raise RequirementsNotMet(
            f"The cheapest of quality {needed} or better, {offers[0].model.slug}, {why}",
            alternatives=[offer.model.slug for offer in offers],
            field="requirements",
        )
    return Selection(fit[0], reason + _limits(requirements), tuple(fit[1:]))


def _needed(requirements: Requirements, *, cheapest: bool) -> tuple[int, str]:
    if requirements.quality is not None:
        return requirements.quality, f"cheapest of quality {requirements.quality} or better"
    if cheapest:
        return 1, "cheapest, as for every request of the tier"
    if requirements.content_type in CONTENT_QUALITY:
        needed = CONTENT_QUALITY[requirements.content_type]
        return needed, f"cheapest good enough for {requirements.content_type} (quality {needed} or better)"
    return DEFAULT_QUALITY, f"cheapest of the usual quality ({DEFAULT_QUALITY} or better)"


def _limits(requirements: Requirements) -> str:
    """The rest of the reason."""
    cost = (
        f", at most ${money.text(requirements.max_cost_usd)}" if requirements.max_cost_usd is not None else ""
    )
    latency = f", within {requirements.max_latency_s:g} s" if requirements.max_latency_s is not None else ""
    return cost + latency


def _unmet(offer: Offer, requirements: Requirements) -> str:
    """Why the offer is none; empty if it is one."""
    cost, latency = requirements.max_cost_usd, requirements.max_latency_s
    if requirements.commercial_use and not offer.model.commercial_use:
        return "is not licensed for commercial use"
    if cost is not None and offer.quote.estimated_usd > cost:
        return f"costs ${money.text(offer.quote.estimated_usd)}, more than ${money.text(cost)}"
    if latency is not None and offer.timing.p95_s > latency:
        return f"takes up to {offer.timing.p95_s:g} s, longer than {latency:g} s"
    return ""


def _unfit(model: ModelInfo, wanted: Wanted) -> InvalidRequest:
    """What is wrong with the parameters for the model, which does not take them."""
    try:
        pricing.resolve(model, wanted.params)
    except InvalidRequest as error:
        return error
    raise AssertionError(f"{model.slug} takes the parameters and was not offered")


def _none_allowed(catalog: Catalog, kind: str) -> ModelRefused:
    if catalog.offered(kind):
        why = f"There is no {kind} model that the tier allows and whose licence allows its use in your region"
        return ModelNotAllowed(why, alternatives=(), field="type")
    return ModelNotFound(f"No {kind} model is offered", alternatives=(), field="type")


def _none_good_enough(catalog: Catalog, kind: str, needed: int, allowed: Sequence[ModelInfo]) -> ModelRefused:
    elsewhere = any(model.quality >= needed for model in catalog.offered(kind))
    refusal = ModelNotAllowed if elsewhere else ModelNotFound
    return refusal(
        f"No {kind} model of quality {needed} or better that the tier allows",
        alternatives=_cheapest_first(allowed),
        field="requirements.quality",
    )


def _cheapest_first(models: Sequence[ModelInfo]) -> list[str]:
    """Their names, for a refusal."""
    return [model.slug for model in sorted(models, key=lambda model: (typical_usd(model), model.slug))]


def typical_usd(model: ModelInfo) -> Decimal:
    """What one output with the default parameters costs (1,000 characters of speech)."""
    params = {"n": 1, **model.defaults}
    return pricing.quote(model, params=params, prompt=_TYPICAL_PROMPT).estimated_usd


def _fitting(catalog: Catalog, models: Sequence[ModelInfo], wanted: Wanted) -> list[Offer]:
    """Offers of those of the models that take the parameters, at the least expected cost first."""
    params = tuple(sorted(wanted.params.items()))
    # The price of most does not depend on the prompt: one pricing serves all requests with these parameters.
    offers = (
        _offer(
            catalog,
            model.slug,
            wanted.prompt if _counts_prompts(catalog, model.slug) else "",
            params,
            batch=wanted.batch,
        )
        for model in models
    )
    return sorted((offer for offer in offers if offer), key=_rank)


@lru_cache(maxsize=256)
def _offer(
    catalog: Catalog, slug: str, prompt: str, params: tuple[tuple[str, Any], ...], *, batch: bool
) -> Offer | None:
    """None: the model does not take the parameters. Remembered by the snapshot, which equals only itself."""
    model = catalog.models[slug]
    try:
        resolved = pricing.resolve(model, dict(params))
    except InvalidRequest:
        return None
    quote = pricing.quote(model, params=resolved, prompt=prompt, batch=batch)
    first = next(route for route in model.routes if route.id == quote.routes[0].route_id)
    expected_usd = quote.estimated_usd / _success_rate(first)
    return Offer(model, resolved, quote, expected_usd, timing(model, first.id))


@lru_cache(maxsize=16)
def prices_prompts(catalog: Catalog, kind: str) -> bool:
    """Whether what some model of the kind costs depends on the prompt."""
    return any(_counts_prompts(catalog, slug) for slug, model in catalog.models.items() if model.kind == kind)


@lru_cache(maxsize=256)
def _counts_prompts(catalog: Catalog, slug: str) -> bool:
    by_text = (Price.Unit.CHARACTER, Price.Unit.THOUSAND_CHARACTERS)
    prices = [route.price for route in catalog.models[slug].routes]
    return any(price.unit in by_text or price.prompt_token_usd for price in prices)


def _success_rate(route: RouteInfo) -> Decimal:
    if route.stats is None or route.stats.samples < ENOUGH_SAMPLES:
        return Decimal(1)
    return max(_LEAST_RATE, Decimal(str(route.stats.success_rate)))


def _rank(offer: Offer) -> tuple[Decimal, int, str]:
    return offer.expected_usd, -offer.model.quality, offer.model.slug

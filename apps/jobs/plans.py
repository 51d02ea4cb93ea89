"""What a request comes to, before anything is stored: model, parameters, routes and their prices."""

import hashlib
import json
import secrets
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from apps.accounts.caller import Caller, Limits
from apps.caching import fingerprint, keys
from apps.catalog import pricing, quotes, selection, snapshot
from apps.catalog.errors import QuoteExpired
from apps.catalog.models import Quote
from apps.catalog.selection import Offer, Requirements, Selection, Wanted
from apps.catalog.snapshot import Catalog, ModelInfo
from apps.core import money
from apps.core.errors import InvalidRequest
from apps.jobs.serializers import EstimateRequest, JobRequest
from apps.jobs.states import Priority
from apps.validation import policy
from apps.validation import request as request_checks

# A model that was not named may be replaced by one that costs up to so many times as much, where the request sets no
# maximum of its own.
_DEARER = 2
_SPARE_MODELS = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """JSON-ready where a job keeps it. The first of the quote's routes is the estimate, the dearest the bound."""

    model: ModelInfo
    prompt: str
    params: dict[str, Any]
    selection: dict[str, Any]
    quote: dict[str, Any]
    fingerprint: bytes
    # None: nobody but the very same request may share the result.
    canonical: bytes | None
    compatibility: bytes
    # What ops has to look at before the job is run.
    findings: tuple[policy.Finding, ...] = ()

    @property
    def estimated_usd(self) -> Decimal:
        return Decimal(self.quote["estimated_usd"])

    @property
    def upper_bound_usd(self) -> Decimal:
        return Decimal(self.quote["upper_bound_usd"])


@dataclass(frozen=True, slots=True)
class _Question:
    """All of a request that decides model, routes and prices; `prompt` is empty where no price counts it."""

    kind: str
    prompt: str
    params: tuple[tuple[str, Any], ...]
    batch: bool
    model: str | None
    fallback_models: tuple[str, ...]
    needs: Requirements
    tier: Limits
    region: str


@dataclass(frozen=True, slots=True)
class _Decided:
    """Shared by all requests that ask the same: nobody writes into it."""

    model: ModelInfo
    params: dict[str, Any]
    selection: dict[str, Any]
    quote: dict[str, Any]


def make(caller: Caller, asked: EstimateRequest, *, new_seed: bool = False) -> Plan:
    """Chooses the model, fills in and checks the parameters, prices every route. No query, no network.

    `new_seed`: another picture than the one that the same request gave before.
    Raises the catalog's refusals, InvalidRequest or ContentRejected.
    """
    prompt = request_checks.normalise(asked.prompt)
    catalog = snapshot.current()
    decided = _decided(catalog, _question(catalog, caller, asked, prompt))
    return _plan(
        asked,
        model=decided.model,
        prompt=prompt,
        params=decided.params,
        chosen=decided.selection,
        quote=decided.quote,
        new_seed=new_seed,
    )


def honour(caller: Caller, asked: JobRequest, quote_id: uuid.UUID) -> Plan:
    """The plan that was quoted, at the prices of then; one query.

    Raises QuoteExpired, QuoteMismatch, or the catalog's refusal if the model has been withdrawn since.
    """
    kept = quotes.find(quote_id, user_id=caller.user_id, digest=_digest(asked))
    prompt = request_checks.normalise(asked.prompt)
    wanted = Wanted(asked.type, prompt, kept["params"])
    commercial = _is_commercial(asked, caller)
    model = selection.choose(
        wanted,
        tier=caller.tier,
        region=caller.region,
        model=kept["selection"]["model"],
        requirements=Requirements(commercial_use=commercial),
    ).model
    offered = {
        str(route.id)
        for each in snapshot.current().offered(asked.type)
        if selection.is_licensed(each, caller.region, commercial=commercial)
        for route in each.routes
    }
    routes = [route for route in kept["quote"]["routes"] if route["route_id"] in offered]
    if not routes:
        raise QuoteExpired("What was quoted is not offered any more. Ask for a new quote.")
    quote = {**kept["quote"], "routes": routes, "quote_id": str(quote_id)}
    return _plan(
        asked, model=model, prompt=prompt, params=kept["params"], chosen=kept["selection"], quote=quote
    )


def keep(caller: Caller, asked: EstimateRequest, plan: Plan) -> Quote:
    """Stores what was told, to be honoured; one query."""
    params = {
        name: value for name, value in plan.params.items() if name != "seed" or asked.params.seed == value
    }
    document = {"params": params, "selection": plan.selection, "quote": plan.quote}
    return quotes.keep(user_id=caller.user_id, digest=_digest(asked), document=document)


def _plan(
    asked: EstimateRequest,
    *,
    model: ModelInfo,
    prompt: str,
    params: dict[str, Any],
    chosen: dict[str, Any],
    quote: dict[str, Any],
    new_seed: bool = False,
) -> Plan:
    """Draws the seed: the same request is the same picture, unless it wants no cache or a variation."""
    seeded = "seed" in params
    if not seeded:
        exact = fingerprint.normalise(prompt, case_sensitive=model.case_sensitive)
        drawn = new_seed or asked.variation or asked.cache == "off"
        seed = (
            secrets.randbelow(fingerprint.MAX_SEED)
            if drawn
            else fingerprint.derive_seed(model=model.slug, prompt=exact)
        )
        params = {**params, "seed": seed}
    found = keys.of(
        kind=asked.type,
        model=model.slug,
        model_version=model.version,
        case_sensitive=model.case_sensitive,
        prompt=prompt,
        params=params,
    )
    own = seeded or asked.variation
    return Plan(
        model=model,
        prompt=prompt,
        params=params,
        selection=chosen,
        quote=quote,
        fingerprint=found.exact,
        canonical=None if own else found.canonical,
        compatibility=found.compatibility,
        findings=policy.admit(prompt),
    )


def _in_batch(asked: EstimateRequest) -> bool:
    return Priority(asked.priority) == Priority.BATCH


@lru_cache(maxsize=256)
def _decided(catalog: Catalog, question: _Question) -> _Decided:
    """Remembered by the snapshot of the catalog, as prices are. Raises the catalog's refusals, which are not."""
    needs = question.needs
    wanted = Wanted(question.kind, question.prompt, dict(question.params), batch=question.batch)
    chosen = selection.choose(
        wanted, tier=question.tier, region=question.region, model=question.model, requirements=needs
    )
    routes = [*_routes(chosen, question)]
    if needs.max_cost_usd is not None:
        # The first is within it, or the model would not have been chosen.
        routes = [route for route in routes if Decimal(route["amount_usd"]) <= needs.max_cost_usd]
    return _Decided(chosen.model, dict(chosen.offer.params), _explained(chosen), _quote(chosen.offer, routes))


def _question(catalog: Catalog, caller: Caller, asked: EstimateRequest, prompt: str) -> _Question:
    params = asked.params.model_dump(exclude_none=True)
    return _Question(
        kind=asked.type,
        prompt=prompt if selection.prices_prompts(catalog, asked.type) else "",
        params=tuple(sorted(params.items())),
        batch=_in_batch(asked),
        model=asked.model,
        fallback_models=tuple(asked.fallback_models),
        needs=_requirements(asked, caller),
        tier=caller.tier,
        region=caller.region,
    )


def _requirements(asked: EstimateRequest, caller: Caller) -> Requirements:
    needs = asked.requirements
    return Requirements(
        quality=needs.quality,
        content_type=needs.content_type,
        max_cost_usd=None if needs.max_cost_usd is None else Decimal(needs.max_cost_usd),
        max_latency_s=needs.max_latency_s,
        commercial_use=_is_commercial(asked, caller),
    )


def _is_commercial(asked: EstimateRequest, caller: Caller) -> bool:
    return caller.is_commercial or bool(asked.requirements.commercial_use)


def _routes(chosen: Selection, question: _Question) -> Iterator[dict[str, Any]]:
    """The model's own, then those of the models to fall back to: named ones, or spare ones where none was named."""
    yield from _priced(chosen.model.slug, chosen.offer.quote.routes)
    # Priced, and held to their limits, with what they would be sent: the parameters of the model asked for.
    sent = Wanted(question.kind, question.prompt, chosen.offer.params, batch=question.batch)
    for index, name in enumerate(question.fallback_models):
        field = f"fallback_models[{index}]"
        fallback = selection.choose(
            sent,
            tier=question.tier,
            region=question.region,
            model=name,
            name_field=field,
            requirements=Requirements(commercial_use=question.needs.commercial_use),
        )
        yield from _priced(name, fallback.offer.quote.routes)
    if question.model is None and not question.fallback_models:
        yield from _spare(chosen, sent, cap=question.needs.max_cost_usd is not None)


def _spare(chosen: Selection, sent: Wanted, *, cap: bool) -> Iterator[dict[str, Any]]:
    """Routes of alternatives that meet the requirements too. `cap`: the request's own maximum holds."""
    limit_usd = chosen.offer.quote.estimated_usd * _DEARER
    for alternative in chosen.alternatives[:_SPARE_MODELS]:
        try:
            params = pricing.resolve(alternative.model, sent.params)
        except InvalidRequest:
            continue
        priced = pricing.quote(alternative.model, params=params, prompt=sent.prompt, batch=sent.batch)
        within = [route for route in priced.routes if cap or route.amount_usd <= limit_usd]
        yield from _priced(alternative.model.slug, within)


def _priced(model: str, routes: Sequence[pricing.RoutePrice]) -> Iterator[dict[str, Any]]:
    for route in routes:
        yield {
            "route_id": str(route.route_id),
            "model": model,
            "provider": route.provider,
            "provider_model": route.provider_model,
            "price_id": str(route.price_id),
            "price_version": route.price_version,
            "amount_usd": money.text(route.amount_usd),
            # What is paid to the provider where the order does not go into a batch after all.
            **({"single_usd": money.text(route.single_usd)} if route.single_usd != route.amount_usd else {}),
        }


def _quote(offer: Offer, routes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    time = offer.timing
    return {
        "estimated_usd": money.text(offer.quote.estimated_usd),
        "upper_bound_usd": money.text(max(Decimal(route["amount_usd"]) for route in routes)),
        "breakdown": offer.quote.breakdown,
        "time_s": {"p50": time.p50_s, "p95": time.p95_s, "basis": time.basis},
        "cache_ttl_s": offer.model.cache_ttl_s,
        "routes": list(routes),
    }


def _explained(chosen: Selection) -> dict[str, Any]:
    return {
        "model": chosen.model.slug,
        "reason": chosen.reason,
        "alternatives": [
            {
                "model": other.model.slug,
                "quality": other.model.quality,
                "estimated_cost_usd": money.text(other.quote.estimated_usd),
            }
            for other in chosen.alternatives
        ],
    }


def _digest(asked: EstimateRequest) -> bytes:
    """Of everything that decides what is made and what it costs."""
    body = asked.model_dump(include=set(EstimateRequest.model_fields))
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()

"""Which model serves a request: the one asked for, or the cheapest that is good enough."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from apps.catalog import pricing, snapshot
from apps.catalog.errors import ModelNotAllowed, ModelNotFound, ModelRetired
from apps.catalog.snapshot import Catalog, ModelInfo
from apps.core import clock

# The quality that an audience needs, when the request does not say.
CONTENT_QUALITY = {"draft": 1, "social": 5, "web": 5, "client": 9, "print": 9}
DEFAULT_QUALITY = 5
# Speech is priced by its text: prices are compared for one of this length.
_TYPICAL_PROMPT = " " * 1000


@dataclass(frozen=True, slots=True)
class Selection:
    """`reason`: a sentence for the client; `alternatives`: other models that would do, cheapest first."""

    model: ModelInfo
    reason: str
    alternatives: tuple[str, ...]


def choose(
    *,
    kind: str,
    model: str | None,
    quality: int | None,
    content_type: str | None,
    max_quality: int,
    cheapest: bool = False,
    field: str = "model",
) -> Selection:
    """`model` if named, else the cheapest of `kind` with the quality asked for or needed for `content_type`.

    `max_quality` is the tier's. What the request only implies is lowered to it; what it says is not.
    `cheapest` (a tier that prefers it) implies nothing: the cheapest model, unless a quality is asked for.
    `field`: where the request names `model`, for the refusal.
    Raises ModelNotFound, ModelRetired or ModelNotAllowed, each with alternatives.
    """
    now = clock.now()
    offers = [offer for offer in _cheapest_first(snapshot.current(), kind) if offer.is_offered(now)]
    allowed = [offer for offer in offers if offer.quality <= max_quality]
    if model is not None:
        return _named(model, kind=kind, max_quality=max_quality, allowed=allowed, field=field)
    if not offers:
        raise ModelNotFound(f"No {kind} model is offered", alternatives=(), field="type")
    needed, reason = _needed(quality, content_type, cheapest=cheapest)
    if quality is None:
        needed = min(needed, max((offer.quality for offer in allowed), default=needed))
    return _cheapest(allowed, needed, reason=reason, kind=kind, max_quality=max_quality, offers=offers)


def typical_usd(model: ModelInfo) -> Decimal:
    """What one output with the default parameters costs (1,000 characters of speech)."""
    return pricing.quote(model, params={"n": 1, **model.defaults}, prompt=_TYPICAL_PROMPT).estimated_usd


def _named(slug: str, *, kind: str, max_quality: int, allowed: Sequence[ModelInfo], field: str) -> Selection:
    others = _slugs(allowed, but=slug)
    found = snapshot.current().models.get(slug)
    if found is None or found.kind != kind:
        raise ModelNotFound(f"There is no {kind} model {slug!r}", alternatives=others, field=field)
    if found.is_retired(clock.now()):
        preferred = [found.successor] if found.successor in others else []
        alternatives = preferred + [other for other in others if other not in preferred]
        raise ModelRetired(f"{slug} is retired", alternatives=alternatives, field=field)
    if not found.routes:
        raise ModelNotFound(f"{slug} is not offered now", alternatives=others, field=field)
    if found.quality > max_quality:
        raise ModelNotAllowed(
            f"{slug} has quality {found.quality}; the tier allows up to {max_quality}",
            alternatives=others,
            field=field,
        )
    return Selection(found, "named in the request", others)


def _needed(quality: int | None, content_type: str | None, *, cheapest: bool) -> tuple[int, str]:
    if quality is not None:
        return quality, f"cheapest of quality {quality} or better"
    if cheapest:
        return 1, "cheapest, as for every request of the tier"
    if content_type in CONTENT_QUALITY:
        needed = CONTENT_QUALITY[content_type]
        return needed, f"cheapest good enough for {content_type} (quality {needed} or better)"
    return DEFAULT_QUALITY, f"cheapest of the usual quality ({DEFAULT_QUALITY} or better)"


def _cheapest(
    allowed: Sequence[ModelInfo],
    needed: int,
    *,
    reason: str,
    kind: str,
    max_quality: int,
    offers: Sequence[ModelInfo],
) -> Selection:
    fit = [offer for offer in allowed if offer.quality >= needed]
    if fit:
        return Selection(fit[0], reason, _slugs(fit[1:]))
    refused = ModelNotAllowed if any(offer.quality >= needed for offer in offers) else ModelNotFound
    raise refused(
        f"No {kind} model of quality {needed} or better within the tier's {max_quality}",
        alternatives=_slugs(allowed),
        field="requirements.quality",
    )


def _slugs(models: Sequence[ModelInfo], but: str = "") -> tuple[str, ...]:
    return tuple(model.slug for model in models if model.slug != but)


@lru_cache(maxsize=8)
def _cheapest_first(catalog: Catalog, kind: str) -> tuple[ModelInfo, ...]:
    """Priced once for each snapshot of the catalog, not for each request."""
    priced = [model for model in catalog.models.values() if model.kind == kind and model.routes]
    return tuple(sorted(priced, key=_by_price))


def _by_price(model: ModelInfo) -> tuple[Decimal, int, str]:
    return typical_usd(model), -model.quality, model.slug

"""The catalog as this process sees it: immutable. Every two seconds one query tells whether it has changed; then three
more read it.

So the submit path makes no query for the catalog, and all decisions about one request see the same prices.
"""

import threading
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from django.conf import settings
from django.db import connection

from apps.catalog.models import GenerationModel, Price, Route, RouteStats
from apps.core import clock, rows

REFRESH_S = 2.0


@dataclass(frozen=True, slots=True)
class PriceInfo:
    id: uuid.UUID
    version: int
    unit: str
    unit_price_usd: Decimal
    multipliers: Mapping[str, Mapping[str, str]]
    prompt_token_usd: Decimal = Decimal(0)
    batch_discount: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class StatsInfo:
    """What `samples` (one or more) recent attempts showed; the times, in seconds, are of the accepted ones."""

    samples: int
    success_rate: float
    p50_s: float | None
    p95_s: float | None
    measured_at: datetime


@dataclass(frozen=True, slots=True)
class RouteInfo:
    id: uuid.UUID
    provider: str
    provider_model: str
    price: PriceInfo
    weight: int = 1
    hedge_after_s: float | None = None
    hedge_max_usd: Decimal | None = None
    batch_size: int | None = None
    batch_wait_s: float | None = None
    stats: StatsInfo | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """An active model; `routes` by position, each with a known price and a provider that we have a key for. `routing`
    says in which order to try them."""

    slug: str
    name: str
    kind: str
    quality: int
    version: str
    limits: Mapping[str, Any]
    defaults: Mapping[str, Any]
    case_sensitive: bool
    expected_s_p50: float
    expected_s_p95: float
    licence: str
    commercial_use: bool
    retired_at: datetime | None
    successor: str | None
    cache_ttl_s: int | None
    routes: tuple[RouteInfo, ...]
    routing: str = GenerationModel.Routing.PRIORITY
    excluded_regions: frozenset[str] = frozenset()

    def is_offered(self, at: datetime) -> bool:
        """A model without a priced route is not offered: its cost is unknown, never free."""
        return bool(self.routes) and not self.is_retired(at)

    def is_retired(self, at: datetime) -> bool:
        return self.retired_at is not None and self.retired_at <= at


@dataclass(frozen=True, eq=False, slots=True)
class Catalog:
    """All active models by slug, the retired ones too: they have a successor to name. One snapshot equals only
    itself, so what is computed of it can be remembered by it."""

    models: Mapping[str, ModelInfo]

    def offered(self, kind: str | None = None) -> tuple[ModelInfo, ...]:
        """What can be bought at this moment, by slug."""
        now = clock.now()
        return tuple(
            model for model in self.models.values() if kind in (None, model.kind) and model.is_offered(now)
        )


_current: Catalog | None = None
# What was read for it: while the same is found, it goes on, and all that is remembered by it.
_stamp, _looked_at = "", datetime.fromtimestamp(0, UTC)
_reading = threading.Lock()

_STAMP = """
SELECT md5(concat_ws('|',
    (SELECT string_agg(m::text, '' ORDER BY slug) FROM catalog_generationmodel m WHERE active),
    (SELECT string_agg(r::text, '' ORDER BY id) FROM catalog_route r WHERE active),
    (SELECT string_agg(p::text, '' ORDER BY route_id) FROM (
        SELECT DISTINCT ON (route_id) * FROM catalog_price WHERE effective_at <= %(now)s
        ORDER BY route_id, effective_at DESC, version DESC) p),
    (SELECT string_agg(s::text, '' ORDER BY route_id) FROM catalog_routestats s),
    %(reachable)s::text))
"""


def current() -> Catalog:
    """The catalog as it was at most `REFRESH_S` ago. While one thread looks the others use what is known."""
    known = _current
    if known and 0 <= (clock.now() - _looked_at).total_seconds() < REFRESH_S:
        return known
    if known is None:
        return _first()
    if not _reading.acquire(blocking=False):
        return known
    try:
        return _look()
    finally:
        _reading.release()


def _first() -> Catalog:
    """The first reading of a process: one thread reads, the others wait for it."""
    # Who waits for the lock may hold one of the pool's connections, so who has the lock must not wait for one.
    connection.ensure_connection()
    with _reading:
        return _current or _look()


def _look() -> Catalog:
    """Reads it anew if it has changed. What changes while it is read is read the next time."""
    global _current, _stamp, _looked_at
    now = clock.now()
    [(stamp,)] = rows.select(_STAMP, {"now": now, "reachable": ",".join(_reachable())})
    if _current is None or stamp != _stamp:
        _current, _stamp = _read(now), stamp
    _looked_at = now
    return _current


def forget() -> None:
    """The next `current()` reads the database: after a sync in this process, and in tests."""
    global _current
    _current = None


def _read(now: datetime) -> Catalog:
    found = {row.slug: row for row in GenerationModel.objects.filter(active=True).order_by("slug")}
    prices = _prices(now)
    routes: defaultdict[str, list[RouteInfo]] = defaultdict(list)
    active = Route.objects.filter(active=True, provider__in=_reachable()).select_related("stats")
    for route in active.order_by("model_id", "position", "id"):
        price, model = prices.get(route.id), found.get(route.model_id)
        if price and model and _is_known(price, model):
            routes[route.model_id].append(_route(route, price))
    models = {slug: _model(row, routes[slug]) for slug, row in found.items()}
    return Catalog(MappingProxyType(models))


def _reachable() -> list[str]:
    """Providers that we have a key for: what only others make is not offered."""
    return [slug for slug, config in settings.PROVIDERS.items() if config.get("api_key")]


def _is_known(price: Price, model: GenerationModel) -> bool:
    """A price of zero, or one that leaves some request without a price, is unknown, never free."""
    return price.unit_price_usd > 0 and not price.gaps(limits=model.limits, defaults=model.defaults)


def _prices(now: datetime) -> dict[uuid.UUID, Price]:
    """The price in force of each route."""
    latest = (
        Price.objects.filter(effective_at__lte=now)
        .order_by("route_id", "-effective_at", "-version")
        .distinct("route_id")
    )
    return {price.route_id: price for price in latest}


def _route(row: Route, price: Price) -> RouteInfo:
    return RouteInfo(
        id=row.id,
        provider=row.provider,
        provider_model=row.provider_model,
        price=_price(price),
        weight=row.weight,
        hedge_after_s=row.hedge_after_s,
        hedge_max_usd=row.hedge_max_usd,
        batch_size=row.batch_size,
        batch_wait_s=row.batch_wait_s,
        stats=_stats(getattr(row, "stats", None)),
    )


def _stats(row: RouteStats | None) -> StatsInfo | None:
    if row is None or row.success_rate is None:
        return None
    return StatsInfo(row.samples, row.success_rate, row.p50_s, row.p95_s, row.measured_at)


def _price(row: Price) -> PriceInfo:
    multipliers = {name: MappingProxyType(rule) for name, rule in row.multipliers.items()}
    return PriceInfo(
        id=row.id,
        version=row.version,
        unit=row.unit,
        unit_price_usd=row.unit_price_usd,
        multipliers=MappingProxyType(multipliers),
        prompt_token_usd=row.prompt_token_usd,
        batch_discount=row.batch_discount,
    )


def _model(row: GenerationModel, routes: Iterable[RouteInfo]) -> ModelInfo:
    return ModelInfo(
        slug=row.slug,
        name=row.name,
        kind=row.kind,
        quality=row.quality,
        version=row.version,
        limits=MappingProxyType(row.limits),
        defaults=MappingProxyType(row.defaults),
        case_sensitive=row.case_sensitive,
        expected_s_p50=row.expected_s_p50,
        expected_s_p95=row.expected_s_p95,
        licence=row.licence,
        commercial_use=row.commercial_use,
        retired_at=row.retired_at,
        successor=row.successor_id,
        cache_ttl_s=row.cache_ttl_s,
        routes=tuple(routes),
        routing=row.routing,
        excluded_regions=frozenset(row.excluded_regions),
    )

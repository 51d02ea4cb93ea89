"""The shapes of the answers, for the OpenAPI document. The documents themselves are built in `documents`."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel


class Seconds(BaseModel):
    """`basis`: what it is known by, `recent` attempts or the `catalog`."""

    p50: float
    p95: float
    basis: Literal["recent", "catalog"] = "catalog"


class Output(BaseModel):
    """An artifact that we hold; `url` is signed and expires, ask the job again for a fresh one."""

    url: str
    artifact_id: str
    media_type: str
    size_bytes: int
    sha256: str
    width: int | None
    height: int | None
    duration_s: float | None


class Error(BaseModel):
    code: str
    message: str
    retryable: bool


class Urls(BaseModel):
    self: str
    cancel: str
    events: str


class Cache(BaseModel):
    """The earlier job whose result answers this one. `similarity`: the cosine, of tier `semantic`."""

    tier: Literal["exact", "canonical", "semantic", "shared"]
    similarity: float | None
    job_id: str
    saved_usd: str


class Job(BaseModel):
    """Amounts are decimal text in USD, times ISO 8601 in UTC."""

    id: str
    status: str
    phase: str
    progress: float
    type: str
    model: str
    cached: bool
    cache: Cache | None
    estimated_cost_usd: str
    estimated_time_s: Seconds
    cost_usd: str
    saved_usd: str
    outputs: list[Output]
    error: Error | None
    batch_id: str | None
    custom_id: str | None
    metadata: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    urls: Urls


class AttemptError(BaseModel):
    kind: str
    message: str


class Change(BaseModel):
    """A parameter that went to the provider otherwise than asked; `sent` null: not at all."""

    param: str
    asked: Any
    sent: Any


class Skip(BaseModel):
    """A route that was passed over without an attempt."""

    provider: str
    model: str
    reason: str
    at: datetime


class Attempt(BaseModel):
    """One purchase at one provider. `hedged`: one of two orders that were under way at once, as the first took long."""

    number: int
    provider: str
    model: str
    status: str
    started_at: datetime
    finished_at: datetime | None
    latency_s: float
    price_usd: str
    cost_usd: str | None
    billed: str
    hedged: bool
    changes: list[Change]
    error: AttemptError | None


class JobDetail(Job):
    prompt: str
    params: dict[str, Any]
    requirements: dict[str, Any]
    selection: dict[str, Any]
    quality: dict[str, Any] | None
    waiting_for: str | None
    skipped: list[Skip]
    attempts: list[Attempt]


class JobPage(BaseModel):
    data: list[Job]
    next: str | None


class FeedbackAnswer(BaseModel):
    """`job`: the fresh generation; null if none was needed, or `error` says why there is none."""

    refunded_usd: str
    job: Job | None
    error: Error | None


class Event(BaseModel):
    at: datetime
    from_status: str
    to_status: str


class Events(BaseModel):
    data: list[Event]


class Alternative(BaseModel):
    model: str
    quality: int
    estimated_cost_usd: str


class Selection(BaseModel):
    """Why this model, and what else would do, at the least expected cost first."""

    model: str
    reason: str
    alternatives: list[Alternative]


class Breakdown(BaseModel):
    """(`unit_price_usd` * `quantity` * `multiplier` + `prompt_usd`) * (1 - `discount`), rounded once, is the estimate.

    `quantity` is of all `count` outputs together, `multiplier` the product of `multipliers`.
    """

    unit: str
    unit_price_usd: str
    quantity: str
    count: int
    multipliers: dict[str, str]
    multiplier: str
    prompt_usd: str
    discount: str


class CacheOutlook(BaseModel):
    """Whether it would be served from the cache now, and what that would save."""

    outlook: Literal["hit", "miss", "off"]
    tier: Literal["exact", "canonical"] | None
    saves_usd: str


class Estimate(BaseModel):
    """Kept to until `expires_at` for a job of the same request that names `quote_id`."""

    quote_id: str
    expires_at: datetime
    model: str
    selection: Selection
    params: dict[str, Any]
    estimated_cost_usd: str
    upper_bound_usd: str
    breakdown: Breakdown
    estimated_time_s: Seconds
    cache: CacheOutlook


class UnitPrice(BaseModel):
    unit: str
    unit_price_usd: str
    multipliers: dict[str, dict[str, Any]]


class Health(BaseModel):
    """ok, degraded (a part of its providers is out) or down (none takes orders now)."""

    status: str
    reason: str | None
    since: datetime | None


class Model(BaseModel):
    id: str
    name: str
    type: str
    quality: int
    allowed: bool
    limits: dict[str, Any]
    defaults: dict[str, Any]
    estimated_time_s: Seconds
    licence: str
    commercial_use: bool
    excluded_regions: list[str]
    retires_at: datetime | None
    successor: str | None
    prices: list[UnitPrice]
    health: Health


class Models(BaseModel):
    data: list[Model]

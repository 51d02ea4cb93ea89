"""The shapes of the answers about money. Amounts are decimal text in USD."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class Period(BaseModel):
    starts_at: datetime
    ends_at: datetime


class Cap(BaseModel):
    """The balance of a current period that has a limit. `percent_used` is decimal text, null for a limit of 0."""

    limit_usd: str
    spent_usd: str
    held_usd: str
    remaining_usd: str
    percent_used: str | None
    period: Period


class Caps(BaseModel):
    """Every cap that a job must fit; null: there is none."""

    user_month: Cap
    user_day: Cap | None
    team_month: Cap | None
    max_job_usd: str | None


class PassedThreshold(BaseModel):
    """A threshold that a current period passed, with the figures of that moment."""

    scope: str
    threshold: int
    percent_used: int
    used_usd: str
    limit_usd: str
    at: datetime


class Budget(Cap):
    """The user's month, then every cap and the thresholds passed."""

    caps: Caps
    warnings: list[PassedThreshold]


class Sums(BaseModel):
    jobs: int
    cost_usd: str
    estimated_usd: str
    saved_usd: str
    generation_s: str


class UsageGroup(Sums):
    """`key`: the day, model, provider, user's id, or "true"/"false" for cached; `name`: for people."""

    key: str
    name: str


class Usage(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    from_: str = Field(alias="from")
    to: str
    group_by: str
    scope: str
    data: list[UsageGroup]
    total: Sums


class Entry(BaseModel):
    """One posting. `reference` is the job's id where it is about a job."""

    id: str
    kind: str
    reference: str
    user_id: str
    amount_usd: str
    spent_delta_usd: str
    held_delta_usd: str
    saved_usd: str
    price_id: str | None
    reason: str
    posted_at: datetime


class EntryPage(BaseModel):
    data: list[Entry]
    next: str | None


class StatementLine(BaseModel):
    day: str | None
    user: str
    model: str | None
    provider: str | None
    cached: bool | None
    jobs: int
    charged_usd: str
    refunded_usd: str
    saved_usd: str


class Correction(BaseModel):
    at: datetime
    user: str
    kind: str
    reference: str
    amount_usd: str
    reason: str


class Statement(BaseModel):
    """`spent_usd` = `charged_usd` - `refunded_usd` + `adjusted_usd`."""

    month: str
    scope: str
    period: Period
    spent_usd: str
    held_usd: str
    charged_usd: str
    refunded_usd: str
    adjusted_usd: str
    saved_usd: str
    jobs: int
    lines: list[StatementLine]
    corrections: list[Correction]

"""The shapes of the answers, for the OpenAPI document. The documents themselves are built in `documents`."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from apps.core.schemas import FieldError, Problem
from apps.jobs.schemas import Error, Output


class Counts(BaseModel):
    """Items: all, those that ended by how, and of the completed those from the cache; `refused` lines became none."""

    total: int
    completed: int
    failed: int
    canceled: int
    expired: int
    cached: int
    refused: int


class BatchUrls(BaseModel):
    self: str
    cancel: str
    results: str


class Batch(BaseModel):
    """Amounts are decimal text in USD, times ISO 8601 in UTC. `progress`: the part of the items that has ended."""

    id: str
    status: str
    progress: float
    counts: Counts
    estimated_cost_usd: str
    held_usd: str
    cost_usd: str
    saved_usd: str
    estimated_end_at: datetime | None
    metadata: dict[str, Any]
    created_at: datetime
    expires_at: datetime
    cancel_requested_at: datetime | None
    finished_at: datetime | None
    urls: BatchUrls


class LineError(FieldError):
    """`line`: from 1, or the place in the array."""

    line: int
    custom_id: str | None


class BatchDetail(Batch):
    """`errors`: of the first lines that became no job."""

    errors: list[LineError]


class BatchPage(BaseModel):
    data: list[Batch]
    next: str | None


class BatchProblem(Problem):
    """Of `batch_invalid` the errors say in which line."""

    errors: list[LineError | FieldError] | None = None


class ItemResult(BaseModel):
    """A line of the results. `status`: of the job, or refused. `error`: of a job that failed; `errors`: of a line that
    became no job."""

    custom_id: str | None
    job_id: str | None
    status: str
    cached: bool
    cost_usd: str
    outputs: list[Output]
    error: Error | None
    errors: list[LineError]

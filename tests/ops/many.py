"""Very many ended jobs of one user, with their attempts and events, as if they had come one by one: for what reads
rows by time. No money is booked for them."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, models

from apps.accounts.models import User
from apps.catalog.models import GenerationModel, Price, Route
from apps.jobs.models import Attempt, Job
from apps.jobs.states import AttemptStatus, Billed, JobStatus
from tests import factories
from tests.ops import rows


@dataclass(frozen=True)
class Lot:
    """`count` jobs, evenly from `from_at` to `to_at`: of each hundred so many fail, and so many are answered from the
    cache. A generated one takes `took_s`, give or take a fifth, and costs `usd`."""

    count: int
    from_at: datetime
    to_at: datetime
    failed: float = 0.0
    cached: float = 0.0
    took_s: float = 4.0
    usd: float = 0.02
    score: float = 0.9


def route(slug: str = "model-x", provider: str = "wavespeed") -> Route:
    model = GenerationModel.objects.create(
        slug=slug, name=slug, kind="image", quality=5, expected_s_p50=1, expected_s_p95=2
    )
    made = Route.objects.create(model=model, provider=provider, provider_model=f"vendor/{slug}")
    Price.objects.create(route=made, version=1, unit="image", unit_price_usd="0.01")
    return made


def jobs(at: Route, lot: Lot, user: User | None = None) -> User:
    """Makes them; returns whose they are."""
    user = user or factories.user()
    job = rows.ended(JobStatus.COMPLETED, user=user, model=at.model_id, metadata={"pattern": True})
    attempt = rows.attempt(job=job, status=AttemptStatus.ACCEPTED, billed=Billed.YES)
    values: dict[str, Any] = {
        "job": job.pk, "attempt": attempt.pk, "count": lot.count, "from_at": lot.from_at,
        "span": lot.to_at - lot.from_at, "failed": lot.failed / 100, "cached": lot.cached / 100,
        "took": lot.took_s, "usd": lot.usd, "score": lot.score, "route": at.pk, "model": at.model_id,
        "provider": at.provider, "second": timedelta(seconds=1), "none": uuid.UUID(int=0),
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(_MADE, values)
        cursor.execute(_insert(Job, _JOB, "%(job)s"), values)
        cursor.execute(_EVENTS)
        cursor.execute(_insert(Attempt, _ATTEMPT, "%(attempt)s") + " WHERE NOT made.cached", values)
        cursor.execute("DROP TABLE made")
        cursor.execute("SELECT brin_summarize_new_values('event_by_time')")
        for table in ("job", "attempt", "jobevent"):
            cursor.execute(f"ANALYZE jobs_{table}")
    return user


_MADE = """
CREATE TEMPORARY TABLE made AS
SELECT i, at, uuidv7(at - clock_timestamp()) AS id, cached, NOT cached AND luck < %(failed)s AS failed,
       CASE WHEN cached THEN 0.0 ELSE %(took)s * (0.8 + 0.4 * random()) END AS took_s
FROM (SELECT i, %(from_at)s::timestamptz + %(span)s::interval * (i / %(count)s::float8) AS at, random() AS luck,
             random() < %(cached)s AS cached
      FROM generate_series(0, %(count)s - 1) AS i) AS one
"""
_ENDED = "made.at + %(second)s::interval * made.took_s"
_JOB = {
    "id": "made.id",
    "status": "CASE WHEN made.failed THEN 'failed' ELSE 'completed' END",
    "error_code": "CASE WHEN made.failed THEN 'generation_failed' ELSE '' END",
    "created_at": "made.at",
    "started_at": "made.at",
    "finished_at": _ENDED,
    "cached_from": "CASE WHEN made.cached THEN %(none)s::uuid END",
    "cache_tier": "CASE WHEN made.cached THEN 'exact' ELSE '' END",
    "cost_usd": "CASE WHEN made.cached OR made.failed THEN 0 ELSE %(usd)s::float8::numeric END",
    "saved_usd": "CASE WHEN made.cached THEN %(usd)s::float8::numeric ELSE 0 END",
}
_ATTEMPT = {
    "id": "uuidv7(made.at - clock_timestamp())",
    "job_id": "made.id",
    "route_id": "%(route)s",
    "model": "%(model)s",
    "provider": "%(provider)s",
    "status": "CASE WHEN made.failed THEN 'failed' ELSE 'accepted' END",
    "billed": "CASE WHEN made.failed THEN 'no' ELSE 'yes' END",
    "error_kind": "CASE WHEN made.failed THEN 'server_error' ELSE '' END",
    "price_usd": "%(usd)s::float8::numeric",
    "quality": "jsonb_build_object('score', %(score)s::float8)",
    "started_at": "made.at",
    "finished_at": _ENDED,
}
_EVENTS = """
INSERT INTO jobs_jobevent (job_id, at, from_status, to_status)
SELECT id, at + interval '1 second' * took_s, 'running', CASE WHEN failed THEN 'failed' ELSE 'completed' END
FROM made WHERE NOT cached ORDER BY i
"""


def _insert(model: type[models.Model], values: dict[str, str], pattern: str) -> str:
    """INSERT of a row for each of `made`, like the row `pattern` but for `values`."""
    columns = [str(field.column) for field in model._meta.concrete_fields]
    taken = ", ".join(values.get(column, f'p."{column}"') for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    table = model._meta.db_table
    return f"INSERT INTO {table} ({names}) SELECT {taken} FROM made JOIN {table} p ON p.id = {pattern}"

"""Is this process alive, and can the platform do its work?"""

from typing import Any

import redis
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, JsonResponse

from apps.core import clock, workers
from apps.core.redis import client
from apps.jobs.models import Job

# A job that waits longer than this for a worker means that nobody works.
LATE_S = 30.0


def healthz(request: HttpRequest) -> JsonResponse:
    """The process answers. Asks nobody else, so that a database that is away does not restart every process."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:
    """503 without Postgres; `degraded` without Redis or workers or when work is late: jobs are still accepted (200)."""
    checks = {"postgres": _postgres(), "redis": _redis(), "workers": _workers(), "oldest_due": _oldest_due()}
    if not checks["postgres"]["ok"]:
        return JsonResponse({"status": "unavailable", "checks": checks}, status=503)
    ok = all(check["ok"] for check in checks.values())
    return JsonResponse({"status": "ok" if ok else "degraded", "checks": checks})


def _postgres() -> dict[str, Any]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except (DatabaseError, InterfaceError) as error:
        return {"ok": False, "error": type(error).__name__}
    return {"ok": True}


def _redis() -> dict[str, Any]:
    try:
        client().ping()
    except redis.RedisError as error:
        return {"ok": False, "error": type(error).__name__}
    return {"ok": True}


def _workers() -> dict[str, Any]:
    try:
        seen = workers.seen()
    except redis.RedisError as error:
        return {"ok": False, "error": type(error).__name__}
    return {"ok": {"io", "cpu"} <= workers.fresh(seen), "seen_s_ago": seen}


def _oldest_due() -> dict[str, Any]:
    try:
        late_s = oldest_due_s()
    except (DatabaseError, InterfaceError) as error:
        return {"ok": False, "error": type(error).__name__}
    return {"ok": late_s <= LATE_S, "age_s": round(late_s, 1)}


def oldest_due_s() -> float:
    """For how long the longest waiting job has been due, seconds; 0 if none is."""
    at = clock.now()
    due = Job.objects.filter(due_at__lte=at).order_by("due_at")
    due_at = due.values_list("due_at", flat=True).first()
    return (at - due_at).total_seconds() if due_at else 0.0

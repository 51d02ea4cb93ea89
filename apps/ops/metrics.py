"""What the platform counts, in one answer: the whole deployment's jobs, money and queues from rows, the rest as the
processes of this machine counted it. Who may read it knows the token or sits on a network that is allowed."""

import hmac
import ipaddress
from pathlib import Path
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from apps.core import rows
from apps.core.telemetry import exposition, instruments, otlp, spool
from apps.core.telemetry.instruments import Totals
from apps.jobs import metrics as jobs
from apps.jobs import tally
from apps.jobs.states import JobStatus
from apps.ledger import metrics as ledger
from apps.ops import health
from apps.providers import metrics as providers
from apps.webhooks import metrics as webhooks

# The rooms that measure: their instruments are known here, whatever else this process has loaded.
ROOMS: Final = (jobs, ledger, providers, webhooks)

# By the index of what is due: the ended jobs, which are nearly all, are not looked at. More are not counted.
_OPEN: Final = """
SELECT model, status, count(*)
FROM (SELECT model, status FROM jobs_job WHERE due_at IS NOT NULL LIMIT 100000) AS open
GROUP BY model, status
"""
_FORWARDED: Final = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP")


def of_deployment() -> Totals:
    """From rows, the same whoever asks: the sums of ended jobs up to now, and what is open, held and spent."""
    tally.all_of_them()
    found = tally.totals()
    instruments.add(found, _queue())
    instruments.add(found, ledger.totals())
    instruments.add(found, providers.breakers())
    return found


def everything() -> Totals:
    """And what the processes of this machine counted."""
    found = of_deployment()
    instruments.add(found, spool.totals(Path(settings.METRICS_DIR)))
    return found


def push() -> bool:
    """Sends what is counted from rows to the collector, if there is one; each machine sends its own by itself."""
    return bool(settings.OTEL_EXPORTER_OTLP_ENDPOINT) and otlp.push(of_deployment(), instance="deployment")


@require_GET
def view(request: HttpRequest) -> HttpResponse:
    """`GET /metrics`, for Prometheus. 401 with a wrong token; 403 from elsewhere where no token is set."""
    given = request.headers.get("Authorization", "")
    if settings.METRICS_TOKEN:
        if not hmac.compare_digest(given.encode(), f"Bearer {settings.METRICS_TOKEN}".encode()):
            return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
    elif not _is_near(request):
        return HttpResponse(status=403)
    return HttpResponse(exposition.text(everything()), content_type=exposition.CONTENT_TYPE)


def _is_near(request: HttpRequest) -> bool:
    """Straight from an allowed network. Behind a proxy everybody seems near: then only the token counts."""
    behind = settings.SECURE_PROXY_SSL_HEADER or settings.PUBLIC_URL.startswith("https://")
    if behind or any(name in request.META for name in _FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(network) for network in settings.METRICS_NETWORKS)


def _queue() -> Totals:
    found: Totals = {
        (jobs.QUEUE_DEPTH.name, ("", status)): [0.0] for status in (JobStatus.QUEUED, JobStatus.RUNNING)
    }
    for model, status, count in rows.select(_OPEN, {}):
        instruments.observe(found, jobs.QUEUE_DEPTH, (tally.known_model(model), status), count)
    found[jobs.OLDEST_DUE.name, ()] = [health.oldest_due_s()]
    return found

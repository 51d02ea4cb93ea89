"""What is measured of jobs. Those that ended are counted from their rows (`tally`), so that the sums are the
database's whatever dies; the rest is counted by the process that does it."""

from collections.abc import Iterable

from django.db import transaction

from apps.core.telemetry import instruments
from apps.core.telemetry.instruments import DURATIONS_S, SCORES, SHORT_S, of_rows
from apps.jobs.models import Attempt, Job, ProviderBatch

# --- Of ended jobs, from rows -----------------------------------------------------------------
REQUESTS = of_rows(
    "counter",
    "generation.requests.total",
    "Jobs that ended",
    labels=("model", "provider", "status", "cached"),
)
ERRORS = of_rows(
    "counter", "generation.errors.total", "Jobs that failed", labels=("model", "provider", "error")
)
CACHE_HITS = of_rows(
    "counter", "generation.cache.hits", "Jobs answered without buying", labels=("model", "tier")
)
DURATION = of_rows(
    "histogram",
    "generation.duration.seconds",
    "From accepting a job to its end",
    labels=("model", "provider", "status", "cached"),
    unit="s",
    bounds=DURATIONS_S,
)
QUEUE = of_rows(
    "histogram",
    "generation.queue.seconds",
    "From accepting a job to its first touch by a worker",
    labels=("model",),
    unit="s",
    bounds=DURATIONS_S,
)
PHASE = of_rows(
    "histogram",
    "generation.phase.seconds",
    "How long a job was in a phase, once for each attempt",
    labels=("phase", "provider"),
    unit="s",
    bounds=DURATIONS_S,
)
OVERHEAD = of_rows(
    "histogram",
    "generation.overhead.seconds",
    "A job's time less that of its providers: what the platform added",
    labels=("cached",),
    unit="s",
    bounds=DURATIONS_S,
)
COST = of_rows(
    "counter",
    "generation.cost.usd",
    "What users paid for jobs, as they ended",
    labels=("model", "provider"),
    unit="{USD}",
)
SAVED = of_rows(
    "counter",
    "generation.saved.usd",
    "What answers from the cache saved",
    labels=("model", "tier"),
    unit="{USD}",
)
BATCH_SAVED = of_rows(
    "counter",
    "generation.batch.saved.usd",
    "What orders made in a provider's batches cost less than alone, as the batches ended",
    labels=("provider",),
    unit="{USD}",
)
QUALITY = of_rows(
    "histogram",
    "generation.quality.score",
    "The checks' score of delivered results, 0 to 1",
    labels=("model", "provider"),
    bounds=SCORES,
)

# --- Of open jobs, from rows ------------------------------------------------------------------
QUEUE_DEPTH = of_rows(
    "gauge", "generation.queue.depth", "Jobs not ended", labels=("model", "status"), unit="{job}"
)
OLDEST_DUE = of_rows(
    "gauge", "jobs.oldest_due.seconds", "For how long the longest waiting due job has been due", unit="s"
)

# --- As it happens ----------------------------------------------------------------------------
ACCEPT = instruments.histogram(
    "http.accept.seconds", "Answering POST /v1/jobs, by HTTP status", labels=("status",), bounds=SHORT_S
)
ATTEMPTS = instruments.counter(
    "generation.attempts.total", "Purchases that ended", labels=("provider", "model", "outcome")
)
FALLBACKS = instruments.counter(
    "generation.fallbacks.total",
    "Orders placed elsewhere after `provider` failed with `error`",
    labels=("model", "provider", "error"),
)
BATCH_SIZE = instruments.histogram(
    "generation.batch.size",
    "Jobs in one call of a provider",
    labels=("provider",),
    unit="{job}",
    bounds=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)
BATCH_FILL = instruments.histogram(
    "generation.batch.fill",
    "Jobs in one call as a share of what it may hold",
    labels=("provider",),
    unit="1",
    bounds=SCORES,
)
BATCH_WAIT = instruments.histogram(
    "generation.batch.wait.seconds",
    "How long a job waited for others to be sent with it",
    labels=("provider",),
    bounds=DURATIONS_S,
)


def accepted(status: int, took_s: float) -> None:
    """A POST of a job was answered."""
    ACCEPT.record(took_s, {"status": str(status)})


def attempt_ended(attempt: Attempt, outcome: str) -> None:
    """Counted when the transaction commits that says so."""
    told = {"provider": attempt.provider, "model": attempt.model, "outcome": str(outcome)}
    transaction.on_commit(lambda: ATTEMPTS.add(1, told), robust=True)


def fell_back(job: Job, left: Attempt) -> None:
    """After `left` another provider is asked."""
    FALLBACKS.add(1, {"model": job.model, "provider": left.provider, "error": left.error_kind or "unknown"})


def sent(batch: ProviderBatch, waited_s: Iterable[float]) -> None:
    """A provider took a batch. `waited_s`: how long each of its jobs waited for it."""
    told = {"provider": batch.provider}
    BATCH_SIZE.record(batch.size, told)
    BATCH_FILL.record(batch.size / batch.room, told)
    for seconds in waited_s:
        BATCH_WAIT.record(seconds, told)

"""Celery is only a bell: queues, routes and the beat schedule. The rows carry the truth."""

import os
from typing import Any

from celery import Celery, Task, bootsteps
from celery.schedules import schedule
from celery.worker.consumer.events import Events

from apps.core.telemetry import logs

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "genplatform.settings")


class DiscreetTask(Task[..., Any]):
    """Its errors are kept with its result and shown in Flower, so they quote no row of the database."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.run(*args, **kwargs)
        except Exception as error:
            logs.strip_rows(error)
            raise


app = Celery("genplatform", task_cls=DiscreetTask)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# io: provider calls and deliveries, many at once. cpu: validation, prefork. control: sweeps. Work of priority batch has
# queues and workers of its own, which the system runs when the others leave it time.
QUEUES = ("io", "cpu", "control", "io_batch", "cpu_batch")

# Flower sees a task at most this late. Celery alone would publish every event by itself, up to three for each task.
_EVENTS_EVERY_S = 1.0
_EVENTS_AT_ONCE = 100


class EventsInBatches(bootsteps.StartStopStep):
    """Publishes what Flower shows of the tasks once a second, or when a hundred events wait."""

    requires = (Events,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def start(self, parent: Any) -> None:
        events = parent.event_dispatcher
        events.on_send_buffered, events.buffer_limit = None, _EVENTS_AT_ONCE
        self._timer = parent.timer.call_repeatedly(_EVENTS_EVERY_S, events.flush)

    def stop(self, parent: Any) -> None:
        self._timer.cancel()
        # Without a broker they are kept for the next connection.
        parent.event_dispatcher.flush()


app.steps["consumer"].add(EventsInBatches)

# Beat only rings. Two beats, or none for ten minutes, harm nothing: every task looks at rows.
_MINUTE, _HOUR = 60.0, 3600.0


def _every(seconds: float, task: str) -> dict[str, Any]:
    """A ring that nobody heard in time is dropped: the next one comes."""
    return {
        "task": task,
        "schedule": schedule(seconds),
        "options": {"queue": "control", "expires": max(5.0, seconds)},
    }


app.conf.beat_schedule = {
    "sweep-jobs": _every(1.0, "jobs.sweep"),
    "sweep-batches": _every(1.0, "jobs.sweep_batches"),
    "follow-batches": _every(1.0, "batches.sweep"),
    "sweep-deliveries": _every(2.0, "webhooks.sweep"),
    "sweep-unknown-outcomes": _every(10.0, "jobs.sweep_unknown"),
    "measure-routes": _every(15.0, "jobs.measure_routes"),
    "count-ended-jobs": _every(5.0, "jobs.count_ended"),
    "push-metrics": _every(15.0, "ops.push_metrics"),
    "ping-providers": _every(1.0, "providers.ping"),
    "sweep-news": _every(15.0, "ops.sweep_news"),
    "watch-anomalies": _every(30.0, "ops.watch_anomalies"),
    "reconcile": _every(10 * _MINUTE, "ops.reconcile"),
    "expire-quotes": _every(10 * _MINUTE, "catalog.expire_quotes"),
    "expire-cached-results": _every(10 * _MINUTE, "caching.expire"),
    "expire-artifacts": _every(10 * _MINUTE, "artifacts.expire"),
    "forget-idempotency-keys": _every(_HOUR, "jobs.forget_idempotency_keys"),
    "forget-idempotency-keys-of-batches": _every(_HOUR, "batches.forget_idempotency_keys"),
    "forget-task-results": _every(24 * _HOUR, "celery.backend_cleanup"),
}

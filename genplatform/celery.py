"""Celery is only a bell: queues, routes and the beat schedule. The rows carry the truth."""

import os

from celery import Celery
from celery.schedules import schedule

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "genplatform.settings")

app = Celery("genplatform")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# io: provider calls and deliveries, many at once. cpu: validation, prefork. control: sweeps.
QUEUES = ("io", "cpu", "control")

# Beat only rings. Two beats, or none for ten minutes, harm nothing: every task looks at rows.
app.conf.beat_schedule = {
    "sweep-jobs": {
        "task": "jobs.sweep",
        "schedule": schedule(1.0),
        "options": {"queue": "control", "expires": 5},
    },
    "sweep-deliveries": {
        "task": "webhooks.sweep",
        "schedule": schedule(2.0),
        "options": {"queue": "control", "expires": 5},
    },
}

"""The deployment: settings, URLs, Celery application, web entry."""

from genplatform.celery import app as celery_app

__all__ = ["celery_app"]

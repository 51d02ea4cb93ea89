"""What beat rings for providers."""

from celery import shared_task

from apps.providers import pings


@shared_task(name="providers.ping")
def ping() -> None:
    pings.look()

"""The bell's end."""

from celery import shared_task

from apps.caching import store


@shared_task(name="caching.expire", ignore_result=False)
def expire() -> int:
    return store.expire()

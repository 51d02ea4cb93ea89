"""The bell's end."""

from celery import shared_task

from apps.catalog import quotes


@shared_task(name="catalog.expire_quotes", ignore_result=False)
def expire_quotes() -> int:
    return quotes.expire()

"""The bell's end."""

import uuid

from celery import shared_task

from apps.caching import store
from apps.caching.semantic import lookup


@shared_task(name="caching.remember")
def remember(*, v: int, id: str) -> None:
    lookup.remember(source_id=uuid.UUID(id))


@shared_task(name="caching.expire", ignore_result=False)
def expire() -> int:
    return store.expire()

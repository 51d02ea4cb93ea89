"""The bell's names for this room."""

from celery import shared_task

from apps.artifacts import store


@shared_task(name="artifacts.expire")
def expire(*, v: int = 1, id: str = "") -> None:
    """Beat rings it: deletes files whose retention time is over."""
    store.expire()

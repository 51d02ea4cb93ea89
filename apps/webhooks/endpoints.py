"""A team's standing addresses: added, removed, and looked up by what they want to be told."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import IntegrityError, transaction

from apps.accounts.models import Team
from apps.core import clock, http
from apps.core.errors import InvalidRequest
from apps.webhooks.models import Delivery, Endpoint

MAX_PER_TEAM: Final = 10
# The end of every job asks: a change is heard everywhere within this time.
REMEMBERED_S: Final = 5.0
_MAX_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Wanting:
    """An active endpoint."""

    id: uuid.UUID
    url: str
    event_types: frozenset[str]


_remembered: dict[uuid.UUID, tuple[datetime, list[Wanting]]] = {}


def wanting(team_id: uuid.UUID, event_type: str) -> list[Wanting]:
    """The team's active endpoints for that type: one query, then remembered in this process for five seconds."""
    now = clock.now()
    looked_up_at, found = _remembered.get(team_id, (None, []))
    if looked_up_at is None or not timedelta() <= now - looked_up_at < timedelta(seconds=REMEMBERED_S):
        found = _look_up(team_id)
        if len(_remembered) >= _MAX_REMEMBERED:
            _remembered.clear()
        _remembered[team_id] = (now, found)
    return [endpoint for endpoint in found if event_type in endpoint.event_types]


def add(team_id: uuid.UUID, *, url: str, event_types: Sequence[str]) -> Endpoint:
    """A new endpoint. Raises InvalidRequest for an address we would not connect to, one the team has already, or one
    too many."""
    try:
        http.check_url(url)
    except http.UnsafeUrl as error:
        raise InvalidRequest.field("url", str(error), "unsafe_url") from error
    try:
        with transaction.atomic():
            # One at a time for each team: the count stays true.
            Team.objects.select_for_update().get(pk=team_id)
            if Endpoint.objects.filter(team_id=team_id).count() >= MAX_PER_TEAM:
                raise InvalidRequest.field("url", f"a team has at most {MAX_PER_TEAM} endpoints", "too_many")
            endpoint = Endpoint.objects.create(team_id=team_id, url=url, event_types=sorted(set(event_types)))
    except IntegrityError as error:
        raise InvalidRequest.field("url", "is an endpoint of the team already", "exists") from error
    _remembered.pop(team_id, None)
    return endpoint


def remove(team_id: uuid.UUID, endpoint_id: uuid.UUID) -> bool:
    """The endpoint is gone and what it was still to be told is dropped. False if the team has no such endpoint."""
    with transaction.atomic():
        stop(endpoint_id, team_id=team_id)
        removed, _ = Endpoint.objects.filter(pk=endpoint_id, team_id=team_id).delete()
    _remembered.pop(team_id, None)
    return bool(removed)


def stop(endpoint_id: uuid.UUID, team_id: uuid.UUID | None = None) -> None:
    """It is told nothing more, not even what waits."""
    endpoints = Endpoint.objects.filter(pk=endpoint_id, **({"team_id": team_id} if team_id else {}))
    endpoints.update(active=False)
    Delivery.objects.filter(endpoint__in=endpoints, status=Delivery.Status.PENDING, lease=None).update(
        status=Delivery.Status.DISABLED, due_at=None
    )


def forget() -> None:
    """For tests: the next question is asked of the database."""
    _remembered.clear()


def _look_up(team_id: uuid.UUID) -> list[Wanting]:
    rows = Endpoint.objects.filter(team_id=team_id, active=True).order_by("id")
    return [Wanting(row.id, row.url, frozenset(row.event_types)) for row in rows]

"""Say that something happened: called inside the transaction that made it happen."""

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from apps.core import bell, clock
from apps.webhooks import endpoints
from apps.webhooks.models import Delivery, Event

MAX_BODY_BYTES: Final = 20_000


def emit(
    *,
    team_id: uuid.UUID,
    type: str,  # noqa: A002
    subject_id: uuid.UUID,
    data: Mapping[str, Any],
    url: str = "",
    traceparent: str | None = None,
) -> None:
    """Stores the event and its deliveries, to `url` (checked when it was accepted) and to every endpoint of the team
    that wants the type, and rings after the commit. Nothing where nobody wants it.

    `data` is JSON-ready. A body of 20 kB or more is replaced by the thin form `{"id": …, "truncated": true}`:
    the receiver reads the subject by its id. The end of a job must not fail for a long message.
    """
    receivers: dict[str, uuid.UUID | None] = {url: None} if url else {}
    receivers |= {wanting.url: wanting.id for wanting in endpoints.wanting(team_id, type)}
    if not receivers:
        return
    payload = _payload(type, data)
    if len(body_of(payload)) >= MAX_BODY_BYTES:
        payload = _payload(type, {"id": str(subject_id), "truncated": True})
    event = Event.objects.create(
        team_id=team_id, type=type, subject_id=subject_id, payload=payload, traceparent=traceparent
    )
    for address, endpoint_id in receivers.items():
        delivery = Delivery.objects.create(event=event, url=address, endpoint_id=endpoint_id)
        bell.ring("webhooks.deliver", id=delivery.id, queue="io")


def body_of(payload: Mapping[str, Any]) -> bytes:
    """The bytes that are signed and sent."""
    return json.dumps(payload, separators=(",", ":"), sort_keys=True).encode()


def _payload(type: str, data: Mapping[str, Any]) -> dict[str, Any]:  # noqa: A002
    return {"type": type, "timestamp": clock.now().isoformat(), "data": dict(data)}

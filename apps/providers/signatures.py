"""Is a webhook what it says it is? The checks that the schemes have in common; all raise WebhookRejected."""

import json
from collections.abc import Mapping
from typing import Any

from apps.core import clock
from apps.providers.errors import WebhookRejected

TOLERANCE_S = 300
_MAX_ID = 255


def event_id(headers: Mapping[str, str], name: str = "webhook-id") -> str:
    """The id under which the event is stored once."""
    value = headers.get(name, "")
    if not (0 < len(value) <= _MAX_ID and value.isprintable()):
        raise WebhookRejected("no usable id")
    return value


def check_age(timestamp: str) -> None:
    """Unix seconds, at most five minutes from now, so that an old webhook can't be sent again."""
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        raise WebhookRejected("the timestamp is no number")
    if abs(clock.now().timestamp() - int(timestamp)) > TOLERANCE_S:
        raise WebhookRejected("the timestamp is too far from now")


def body(raw: bytes) -> dict[str, Any]:
    """The JSON object of a webhook whose signature holds."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise WebhookRejected("the body is not JSON") from error
    if not isinstance(value, dict):
        raise WebhookRejected("the body is no JSON object")
    return value


def task_id(value: object) -> str:
    """The provider's name of the task, as the body gives it."""
    if not isinstance(value, str) or not (0 < len(value) <= _MAX_ID and value.isprintable()):
        raise WebhookRejected("the body names no task")
    return value

"""Raise what somebody should look at, once for each thing; resolve it when it is gone."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from django.db import connection

from apps.accounts.models import User
from apps.core import clock
from apps.core.ids import uuid7
from apps.ops.models import Alert

_RAISE = """
INSERT INTO ops_alert (id, kind, severity, key, subject, message, details, count, first_at, last_at)
VALUES (%(id)s, %(kind)s, %(severity)s, %(key)s, %(subject)s, %(message)s, %(details)s::jsonb, 1, %(now)s, %(now)s)
ON CONFLICT (key) WHERE resolved_at IS NULL DO UPDATE SET
    severity = EXCLUDED.severity, message = EXCLUDED.message, details = EXCLUDED.details,
    count = ops_alert.count + 1, last_at = EXCLUDED.last_at
RETURNING (count = 1)
"""


def raise_(
    *,
    kind: str,
    severity: Alert.Severity,
    key: str,
    subject: str,
    message: str,
    details: Mapping[str, Any] | None = None,
) -> bool:
    """Opens the alert of `key`, or counts it and takes the newest words if it is open. True if it was opened.

    `details` is JSON-ready and holds no prompts, keys or e-mail addresses.
    """
    values: dict[str, Any] = {
        "id": uuid7(),
        "kind": kind,
        "severity": str(severity),
        "key": key[:200],
        "subject": subject[:200],
        "message": message,
        "details": json.dumps(dict(details or {})),
        "now": clock.now(),
    }
    with connection.cursor() as cursor:
        cursor.execute(_RAISE, values)
        opened: bool = cursor.fetchone()[0]
    return opened


def resolve(key: str) -> bool:
    """What the alert of `key` told of is gone. False if none was open."""
    return bool(Alert.objects.open().filter(key=key).update(resolved_at=clock.now()))


def resolve_others(kind: str, keys: Collection[str]) -> int:
    """After a whole check of `kind` that found just `keys`: the other open alerts of it are resolved. How many."""
    return Alert.objects.open().filter(kind=kind).exclude(key__in=keys).update(resolved_at=clock.now())


def acknowledge(alert: Alert, by: User) -> bool:
    """Somebody looks at it. False if somebody did before, or it is resolved."""
    mine = Alert.objects.open().filter(pk=alert.pk, acknowledged_at=None)
    return bool(mine.update(acknowledged_at=clock.now(), acknowledged_by=by))

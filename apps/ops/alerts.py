"""Raise what somebody should look at, once for each thing; resolve it when it is gone."""

import json
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, Final

from django.db.models import Q

from apps.accounts.models import User
from apps.core import clock, rows
from apps.core.ids import uuid7
from apps.ops import notices
from apps.ops.models import Alert, AlertQuerySet, Notice

_GRAVITY: Final = tuple(Alert.Severity.values)

# A new alert has no severity before.
_RAISE = """
INSERT INTO ops_alert (id, kind, severity, key, subject, message, details, count, first_at, last_at)
VALUES (%(id)s, %(kind)s, %(severity)s, %(key)s, %(subject)s, %(message)s, %(details)s::jsonb, 1, %(now)s, %(now)s)
ON CONFLICT (key) WHERE resolved_at IS NULL DO UPDATE SET
    severity = EXCLUDED.severity, message = EXCLUDED.message, details = EXCLUDED.details,
    count = ops_alert.count + 1, last_at = EXCLUDED.last_at
RETURNING id, old.severity
"""
# Gone and back within the cool-down, it is the same alert, unless another one is open.
_REOPEN = """
UPDATE ops_alert SET resolved_at = NULL
WHERE id = (SELECT id FROM ops_alert WHERE key = %(key)s ORDER BY id DESC LIMIT 1) AND resolved_at > %(since)s
"""


def raise_(
    *,
    kind: str,
    severity: Alert.Severity,
    key: str,
    subject: str,
    message: str,
    details: Mapping[str, Any] | None = None,
    cool_down_s: float = 0,
) -> bool:
    """Opens the alert of `key`, or counts it and takes the newest words if it is open. True if it was opened: then, and
    when it is graver than it was, whom the settings name is told after the commit.

    `details` is JSON-ready and holds no prompts, keys or e-mail addresses. One that was resolved less than
    `cool_down_s` ago goes on instead of being a new one.
    """
    now = clock.now()
    values: dict[str, Any] = {
        "id": uuid7(),
        "kind": kind,
        "severity": str(severity),
        "key": key[:200],
        "subject": subject[:200],
        "message": message,
        "details": json.dumps(dict(details or {})),
        "now": now,
        "since": now - timedelta(seconds=cool_down_s),
    }
    if cool_down_s and rows.execute(_REOPEN, values):
        notices.not_resolved(values["key"])
    [(alert_id, before)] = rows.select(_RAISE, values)
    if before is None:
        notices.queue(alert_id, key=key, severity=str(severity), event=Notice.Event.OPENED)
    elif _GRAVITY.index(str(severity)) > _GRAVITY.index(before):
        notices.queue(alert_id, key=key, severity=str(severity), event=Notice.Event.ESCALATED)
    return before is None


def resolve(key: str) -> bool:
    """What the alert of `key` told of is gone. False if none was open."""
    return bool(_resolve(Alert.objects.open().filter(key=key)))


def resolve_others(kind: str, keys: Collection[str]) -> int:
    """After a whole check of `kind`, or of all kinds that begin with it and a dot, that found just `keys`: the other
    open alerts of it are resolved. How many."""
    of_kind = Q(kind=kind) | Q(kind__startswith=f"{kind}.")
    return _resolve(Alert.objects.open().filter(of_kind).exclude(key__in=keys))


def _resolve(alerts: AlertQuerySet) -> int:
    ids = list(alerts.values_list("pk", flat=True))
    if ids:
        Alert.objects.open().filter(pk__in=ids).update(resolved_at=clock.now())
        notices.resolved(ids)
    return len(ids)


def acknowledge(alert: Alert, by: User) -> bool:
    """Somebody looks at it. False if somebody did before, or it is resolved."""
    mine = Alert.objects.open().filter(pk=alert.pk, acknowledged_at=None)
    return bool(mine.update(acknowledged_at=clock.now(), acknowledged_by=by))

"""Teams whom an unusual series concerns: their webhook endpoints are told, once for each alert."""

import uuid
from datetime import timedelta
from typing import Any, Final

from apps.accounts.models import User
from apps.core import clock, rows
from apps.core.ids import uuid7
from apps.ops.anomalies.detect import Memory
from apps.ops.anomalies.metrics import Family
from apps.ops.anomalies.series import Key
from apps.webhooks import emit
from apps.webhooks.models import EventType

_LATELY: Final = timedelta(hours=1)
_MOST_TEAMS: Final = 500
# Who was delivered something by that model at that provider, along `attempt_measured`.
_CONCERNED = """
SELECT DISTINCT j.team_id
FROM catalog_route route
JOIN LATERAL (SELECT job_id FROM jobs_attempt
              WHERE route_id = route.id AND finished_at > %(since)s
                AND status IN ('accepted', 'rejected', 'failed')
                AND NOT (error_kind IN ('content_rejected', 'invalid_request', 'canceled'))
                AND status = 'accepted' AND model = %(model)s) a ON true
JOIN jobs_job j ON j.id = a.job_id
JOIN webhooks_endpoint e ON e.team_id = j.team_id AND e.active
WHERE route.provider = %(provider)s
LIMIT %(most)s
"""


def teams(family: Family, key: Key, memory: Memory) -> int:
    """Quality: every team that got something of it lately. Spend: the team of who spent so much. How many endpoints'
    teams were told of it."""
    if family == Family.QUALITY:
        since = clock.now() - _LATELY
        found = rows.select(_CONCERNED, {**key._asdict(), "since": since, "most": _MOST_TEAMS})
        return _tell([team_id for (team_id,) in found], EventType.QUALITY_WARNING, key, memory)
    if family == Family.SPEND and memory.about:
        user = User.objects.filter(pk=memory.about, team__isnull=False).first()
        if user and user.team_id:
            return _tell([user.team_id], EventType.SPEND_WARNING, key, memory)
    return 0


def _tell(team_ids: list[uuid.UUID], type: EventType, key: Key, memory: Memory) -> int:  # noqa: A002
    subject_id = uuid7()
    for team_id in team_ids:
        emit.emit(team_id=team_id, type=type, subject_id=subject_id, data=_data(subject_id, key, memory))
    return len(team_ids)


def _data(subject_id: uuid.UUID, key: Key, memory: Memory) -> dict[str, Any]:
    where = {"user_id": memory.about} if memory.about else {"model": key.model, "provider": key.provider}
    return {
        "id": str(subject_id),
        **where,
        "severity": memory.severity,
        "value": round(memory.value, 6),
        "usual": round(memory.usual, 6),
    }

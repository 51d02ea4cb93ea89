"""Tell who should know that a threshold of a budget was passed: the team's webhook endpoints, the user and the team's
admins by e-mail, ops by an alert. Once: all of it is written in the transaction that marks the warning announced."""

import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Q

from apps.accounts.models import Team, User
from apps.core import bell, clock, money
from apps.ledger.models import BudgetWarning, Scope
from apps.ops import alerts, mail
from apps.ops.models import Alert
from apps.webhooks import emit
from apps.webhooks.models import EventType

KIND: Final = "budget.warning"
# A ring that nobody came for in this time may have been lost.
_RING_AGAIN_S: Final = 10
_BATCH: Final = 500
_NAMES = {
    Scope.USER_MONTH: "monthly budget",
    Scope.USER_DAY: "daily budget",
    Scope.TEAM_MONTH: "team budget",
}


def announce(warning_id: uuid.UUID) -> bool:
    """False if it was announced before. The event's id, and so the `webhook-id` of every delivery, is the only one this
    warning ever has."""
    with transaction.atomic(durable=True):
        mine = BudgetWarning.objects.filter(pk=warning_id, announced_at=None)
        if not mine.update(announced_at=clock.now()):
            return False
        warning = BudgetWarning.objects.select_related("period__user__team", "period__team").get(
            pk=warning_id
        )
        user = warning.period.user
        # None: the user has left every team since, and there is no endpoint or admin to tell.
        team = user.team if user else warning.period.team
        document, subject = _document(warning, team, user), _subject(warning, user or team)
        if team:
            emit.emit(team_id=team.pk, type=EventType.BUDGET_WARNING, subject_id=warning.pk, data=document)
        for recipient in _recipients(team, user):
            mail.queue(recipient, subject=subject, body=_body(warning, subject))
        alerts.raise_(
            kind=KIND,
            severity=Alert.Severity.WARNING if warning.threshold >= 100 else Alert.Severity.INFO,
            key=_key(warning.period_id, warning.threshold),
            subject=str(user or team),
            message=subject,
            details=document,
        )
    return True


def sweep() -> int:
    """Rings for warnings nobody heard of; returns how many. A ring too many does nothing."""
    since = clock.now() - timedelta(seconds=_RING_AGAIN_S)
    unheard = BudgetWarning.objects.filter(announced_at=None, created_at__lte=since).order_by("created_at")
    ids = list(unheard.values_list("pk", flat=True)[:_BATCH])
    for warning_id in ids:
        bell.ring("ops.budget_warning", id=warning_id, queue="control")
    return len(ids)


def resolve_past() -> int:
    """The alerts of periods that are over are resolved; how many."""
    now = clock.now()
    current = BudgetWarning.objects.filter(period__ends_at__gt=now).values_list("period_id", "threshold")
    return alerts.resolve_others(KIND, [_key(period_id, threshold) for period_id, threshold in current])


def _recipients(team: Team | None, user: User | None) -> Iterable[User]:
    """The user and the team's admins who can be written to, each once."""
    whom = Q(team__isnull=False, team=team, is_team_admin=True) | Q(pk=user.pk if user else None)
    return User.objects.filter(whom, is_active=True).exclude(email="").order_by("pk")


def _document(warning: BudgetWarning, team: Team | None, user: User | None) -> dict[str, Any]:
    return {
        "id": str(warning.pk),
        "scope": warning.period.scope,
        "team_id": str(team.pk) if team else None,
        "user_id": str(user.pk) if user else None,
        "threshold": warning.threshold,
        "percent_used": warning.percent_used,
        "used_usd": money.text(warning.used_usd),
        "limit_usd": money.text(warning.limit_usd),
        "remaining_usd": money.text(warning.remaining_usd),
        "period": {
            "starts_at": warning.period.starts_at.isoformat(),
            "ends_at": warning.period.ends_at.isoformat(),
        },
    }


def _subject(warning: BudgetWarning, owner: User | Team | None) -> str:
    return f"{warning.percent_used} % of the {_NAMES[Scope(warning.period.scope)]} of {owner} is used"


def _body(warning: BudgetWarning, subject: str) -> str:
    return (
        f"{subject}: {money.text(warning.used_usd)} of {money.text(warning.limit_usd)} USD, spent and "
        f"held.\n{money.text(warning.remaining_usd)} USD remain until {warning.period.ends_at:%Y-%m-%d %H:%M} UTC. "
        "What does not fit is refused.\n"
    )


def _key(period_id: int, threshold: int) -> str:
    return f"{KIND}:{period_id}:{threshold}"

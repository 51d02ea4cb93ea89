"""The bell's end."""

from typing import Any

import structlog
from celery import shared_task

from apps.core import money
from apps.ledger.models import BudgetWarning
from apps.ops import reconcile as books

log = structlog.get_logger(__name__)


@shared_task(name="ops.reconcile", ignore_result=False)
def reconcile() -> list[dict[str, Any]]:
    """The differences, kept with the task's result; each is also an error in the log."""
    found = books.differences()
    for difference in found:
        log.error("ledger.difference", **difference)
    return found


@shared_task(name="ops.budget_warning")
def budget_warning(*, v: int, id: str) -> None:
    """A threshold of a budget was passed: said in the log."""
    warning = BudgetWarning.objects.select_related("period").get(pk=id)
    log.warning(
        "budget.warning",
        scope=warning.period.scope,
        owner=str(warning.period.user_id or warning.period.team_id),
        percent_used=warning.percent_used,
        remaining_usd=money.text(warning.remaining_usd),
    )

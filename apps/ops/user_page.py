"""A user's page: who it is, and how the money stands: every budget, what it was spent on, and what is held for which
job."""

import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from unfold.decorators import action

from apps.accounts.admin import UserAdmin
from apps.accounts.models import User
from apps.core import clock, money
from apps.core.admin import link, usd
from apps.jobs.models import Job
from apps.ledger import by_hand, corrections, reports, statements
from apps.ledger.models import Hold

_LISTED = 20


class UserPage(UserAdmin):
    readonly_fields = ("budgets", "spent_on", "open_holds")
    actions_detail = ("adjust",)

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        """The money of whoever can spend some, for those who may see it."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or obj.team_id is None or not request.user.has_perm("ledger.view_budgetperiod"):
            return fieldsets
        return (("Money", {"fields": self.readonly_fields}), *fieldsets)

    def has_adjust_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(request.user.has_perm("ledger.adjust_entry"))

    @action(description="Adjust what was spent", permissions=["adjust"], url_path="adjust")  # type: ignore[untyped-decorator]  # untyped package
    def adjust(self, request: HttpRequest, object_id: str) -> HttpResponse:
        user = get_object_or_404(User, pk=_uuid(object_id), team__isnull=False)

        def book(amount_usd: Decimal, reason: str) -> str:
            by = request.user.get_username()
            corrections.adjust(user=user, amount_usd=amount_usd, reason=reason, by=by)
            return f"adjusted by {usd(amount_usd)}: {reason}"

        title = f"Adjust what {user} has spent: more than 0 charges, less is a credit"
        return by_hand.page(self, request, user, title=title, act=book)

    @admin.display(description="budgets")
    def budgets(self, user: User) -> SafeString:
        return render_to_string("ops/budgets.html", {"bars": list(_bars(user))})

    @admin.display(description="spent this month, by model")
    def spent_on(self, user: User) -> SafeString:
        today = clock.now().astimezone(ZoneInfo(user.timezone)).date()
        owner = reports.Owner("user", user.pk)
        found = reports.usage(owner, group_by="model", first=today.replace(day=1), last=today)
        rows = [
            [group["name"], f"{group['jobs']:,}", f"${group['cost_usd']}", f"${group['saved_usd']}"]
            for group in found["data"][:_LISTED]
        ]
        return _table(["Model", "Jobs", "Cost", "Saved by the cache"], rows)

    @admin.display(description="open holds")
    def open_holds(self, user: User) -> SafeString:
        """The newest; all of them are one click away in the list of holds."""
        held = Hold.objects.filter(period__user=user, state=Hold.State.HELD).order_by("-created_at")[:_LISTED]
        rows = [
            [
                f"{hold.created_at:%Y-%m-%d %H:%M:%S}",
                link(Job, hold.reference, str(hold.reference)),
                link(Hold, hold.pk, usd(hold.amount_usd)),
            ]
            for hold in held
        ]
        return _table(["Since", "Job", "Held"], rows)


def _bars(user: User) -> Iterator[dict[str, str]]:
    caps = statements.caps(user_id=user.pk, timezone=user.timezone)
    named = (("Month", caps.user_month), ("Day", caps.user_day), ("Team's month", caps.team_month))
    for title, balance in named:
        if balance:
            used = (
                f"{usd(balance.spent_usd)} spent and {usd(balance.held_usd)} held of {usd(balance.limit_usd)}"
            )
            part = balance.percent_used or Decimal(0)
            width = max(Decimal(0), min(Decimal(100), part))
            yield {"title": f"{title}: {used}", "percent": money.text(part), "width": str(width)}


def _table(headers: list[str], rows: list[list[Any]]) -> SafeString:
    return render_to_string("unfold/components/table.html", {"table": {"headers": headers, "rows": rows}})


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise Http404 from error

"""Ops' pages of the money. Limits are edited; everything booked is history."""

import uuid
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import action

from apps.core import clock
from apps.core.admin import BoundedPaginator, HistoryAdmin, ModelAdmin, Since, badge, usd
from apps.ledger import by_hand, corrections
from apps.ledger.models import (
    Budget,
    BudgetPeriod,
    BudgetWarning,
    Entry,
    Hold,
    Scope,
    TeamBudget,
    UsageDay,
    UsageRecord,
)

_COLOURS: dict[str, str] = {Hold.State.HELD: "info", Hold.State.CAPTURED: "success"}


@admin.register(Budget)
class BudgetAdmin(ModelAdmin):
    """Deleting one gives the user the tier's budget again."""

    list_display = ("user", "limit", "tier_limit")
    list_select_related = ("user__tier",)
    search_fields = ("user__username", "user__email")
    autocomplete_fields = ("user",)
    paginator = BoundedPaginator
    show_full_result_count = False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("user",) if obj else ()

    @admin.display(description="limit", ordering="limit_usd")
    def limit(self, budget: Budget) -> str:
        return usd(budget.limit_usd)

    @admin.display(description="limit of the tier")
    def tier_limit(self, budget: Budget) -> str:
        return usd(budget.user.tier.monthly_budget_usd) if budget.user.tier else ""


class CurrentFilter(admin.SimpleListFilter):
    title, parameter_name = "period", "period"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("current", "Current")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(ends_at__gt=clock.now()) if self.value() else queryset


@admin.register(BudgetPeriod)
class BudgetPeriodAdmin(HistoryAdmin):
    list_display = ("owner", "scope", "starts_at", "ends_at", "spent", "held", "limit", "remaining")
    list_filter = (CurrentFilter, "scope")
    list_select_related = ("user__tier", "user__budget", "team__budget")
    search_owner = "user"
    search_ids = ("user_id",)
    ordering = ("-id",)
    fields = ("owner", "scope", "starts_at", "ends_at", "spent", "held", "limit", "remaining", "booked")

    @admin.display(description="of")
    def owner(self, period: BudgetPeriod) -> str:
        return str(period.user or period.team)

    @admin.display(description="spent", ordering="spent_usd")
    def spent(self, period: BudgetPeriod) -> str:
        return usd(period.spent_usd)

    @admin.display(description="held", ordering="held_usd")
    def held(self, period: BudgetPeriod) -> str:
        return usd(period.held_usd)

    @admin.display(description="limit now")
    def limit(self, period: BudgetPeriod) -> str:
        return usd(_limit(period))

    @admin.display(description="remaining")
    def remaining(self, period: BudgetPeriod) -> str:
        limit = _limit(period)
        return usd(None if limit is None else max(Decimal(0), limit - period.spent_usd - period.held_usd))

    @admin.display(description="booked")
    def booked(self, period: BudgetPeriod) -> SafeString:
        pages = (("Holds", "ledger_hold"), ("Entries", "ledger_entry"))
        column = {Scope.USER_DAY: "day_period", Scope.TEAM_MONTH: "team_period"}.get(
            Scope(period.scope), "period"
        )
        rows = (
            (f"{reverse(f'admin:{page}_changelist')}?{column}__id__exact={period.pk}", title)
            for title, page in pages
        )
        return format_html_join(" · ", '<a class="text-link" href="{}">{}</a>', rows)


def _uuid_or_404(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise Http404 from error


def _limit(period: BudgetPeriod) -> Decimal | None:
    """The owner's own limit, else the tier's, as admission reads it; None: it has none."""
    if period.user is None:
        shared: Decimal | None = getattr(getattr(period.team, "budget", None), "limit_usd", None)
        return shared
    own, tier = getattr(period.user, "budget", None), period.user.tier
    names = ("limit_usd", "monthly_budget_usd")
    if period.scope == Scope.USER_DAY:
        names = ("daily_limit_usd", "daily_budget_usd")
    limit: Decimal | None = getattr(own, names[0], None)
    return getattr(tier, names[1], None) if limit is None else limit


@admin.register(Hold)
class HoldAdmin(HistoryAdmin):
    list_display = ("created_at", "reference", "user", "status", "amount", "captured", "resolved_at")
    list_filter = ("state", Since)
    list_select_related = ("period__user",)
    search_owner = "period__user"
    search_ids = ("reference", "period__user_id")
    search_help_text = "The id of what the money is for, or a part of a user's name"
    ordering = ("-id",)
    fields = (
        "reference", "user", "period", "status", "amount", "captured", "refunded", "price_id", "created_at",
        "resolved_at",
    )  # fmt: skip
    actions_detail = ("refund",)

    def has_refund_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(request.user.has_perm("ledger.refund_hold"))

    @action(description="Refund", permissions=["refund"], url_path="refund")  # type: ignore[untyped-decorator]  # untyped package
    def refund(self, request: HttpRequest, object_id: str) -> HttpResponse:
        hold = get_object_or_404(Hold, pk=_uuid_or_404(object_id))

        def give_back(amount_usd: Decimal, reason: str) -> str:
            corrections.refund(
                reference=hold.reference,
                amount_usd=amount_usd,
                reason=reason,
                by=request.user.get_username(),
            )
            return f"refunded {usd(amount_usd)}: {reason}"

        left = usd(hold.captured_usd - hold.refunded_usd)
        return by_hand.page(self, request, hold, title=f"Refund: at most {left} is left", act=give_back)

    @admin.display(description="refunded")
    def refunded(self, hold: Hold) -> str:
        return usd(hold.refunded_usd)

    @admin.display(description="user")
    def user(self, hold: Hold) -> str:
        return str(hold.period.user)

    @admin.display(description="state", ordering="state")
    def status(self, hold: Hold) -> SafeString:
        return badge(hold.state, _COLOURS.get(hold.state, ""))

    @admin.display(description="amount", ordering="amount_usd")
    def amount(self, hold: Hold) -> str:
        return usd(hold.amount_usd)

    @admin.display(description="captured", ordering="captured_usd")
    def captured(self, hold: Hold) -> str:
        return usd(hold.captured_usd)


@admin.register(Entry)
class EntryAdmin(HistoryAdmin):
    list_display = ("posted_at", "kind", "reference", "user", "amount", "spent", "held", "reason")
    list_filter = ("kind", "posted_at")
    list_select_related = ("user", "period")
    search_owner = "user"
    search_ids = ("reference", "user_id")
    search_help_text = "The id of what the money was for, or a part of a user's name"
    ordering = ("-id",)
    fields = ("posted_at", "kind", "reference", "user", "period", "amount", "spent", "held", "reason", "by")

    @admin.display(description="user")
    def user(self, entry: Entry) -> str:
        return str(entry.user)

    @admin.display(description="amount", ordering="amount_usd")
    def amount(self, entry: Entry) -> str:
        return usd(entry.amount_usd)

    @admin.display(description="change of spent")
    def spent(self, entry: Entry) -> str:
        return usd(entry.spent_delta_usd)

    @admin.display(description="change of held")
    def held(self, entry: Entry) -> str:
        return usd(entry.held_delta_usd)


@admin.register(TeamBudget)
class TeamBudgetAdmin(ModelAdmin):
    """Deleting one leaves the team's users to their own budgets."""

    list_display = ("team", "limit")
    list_select_related = ("team",)
    search_fields = ("team__name",)
    autocomplete_fields = ("team",)
    paginator = BoundedPaginator
    show_full_result_count = False

    @admin.display(description="limit", ordering="limit_usd")
    def limit(self, budget: TeamBudget) -> str:
        return usd(budget.limit_usd)


@admin.register(BudgetWarning)
class BudgetWarningAdmin(HistoryAdmin):
    list_display = ("created_at", "owner", "scope", "threshold", "used", "limit", "announced_at")
    list_filter = ("threshold",)
    list_select_related = ("period__user", "period__team")
    search_owner = "period__user"
    search_ids = ("period__user_id", "period__team_id")
    ordering = ("-created_at",)

    @admin.display(description="of")
    def owner(self, warning: BudgetWarning) -> str:
        return str(warning.period.user or warning.period.team)

    @admin.display(description="period")
    def scope(self, warning: BudgetWarning) -> str:
        return Scope(warning.period.scope).label

    @admin.display(description="used")
    def used(self, warning: BudgetWarning) -> str:
        return usd(warning.used_usd)

    @admin.display(description="limit")
    def limit(self, warning: BudgetWarning) -> str:
        return usd(warning.limit_usd)


class _UsageAdmin(HistoryAdmin):
    list_filter = ("cached",)
    list_select_related = ("user",)
    search_owner = "user"
    ordering = ("-id",)

    @admin.display(description="cost")
    def cost(self, usage: UsageRecord | UsageDay) -> str:
        return usd(usage.cost_usd)

    @admin.display(description="estimated")
    def estimated(self, usage: UsageRecord | UsageDay) -> str:
        return usd(usage.estimated_usd)

    @admin.display(description="saved")
    def saved(self, usage: UsageRecord | UsageDay) -> str:
        return usd(usage.saved_usd)


@admin.register(UsageRecord)
class UsageRecordAdmin(_UsageAdmin):
    list_display = ("at", "reference", "user", "model", "provider", "cached", "cost", "estimated", "saved")
    search_ids = ("reference", "user_id")


@admin.register(UsageDay)
class UsageDayAdmin(_UsageAdmin):
    list_display = ("day", "user", "model", "provider", "cached", "jobs", "cost", "estimated", "saved")
    search_ids = ("user_id",)

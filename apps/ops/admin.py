"""The admin's first page, alerts, e-mails, what providers billed, and what Celery kept: results of periodic tasks and
every failure, to look at."""

from typing import Any, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django_celery_results.models import GroupResult, TaskResult

from apps.accounts.models import User
from apps.core.admin import HistoryAdmin, Since, badge, usd
from apps.ops import alerts, user_page
from apps.ops.models import Alert, Bill, BillLine, Email

admin.site.index_title = "Today"
admin.site.index_template = "ops/dashboard.html"
admin.site.unregister(GroupResult)  # the platform has no groups: rows, not chords, are its workflow
admin.site.unregister(TaskResult)

# Accounts know nothing of money: the page of a user that shows both is made here, above them.
admin.site.unregister(User)
admin.site.register(User, user_page.UserPage)

_COLOURS: dict[str, str] = {
    Alert.Severity.INFO: "info",
    Alert.Severity.WARNING: "warning",
    Alert.Severity.CRITICAL: "danger",
}


class StateFilter(admin.SimpleListFilter):
    title, parameter_name = "state", "is"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Open"), ("new", "Nobody looked yet"), ("resolved", "Resolved")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        match self.value():
            case "open":
                return queryset.filter(resolved_at=None)
            case "new":
                return queryset.filter(resolved_at=None, acknowledged_at=None)
            case "resolved":
                return queryset.filter(resolved_at__isnull=False)
            case _:
                return queryset


@admin.register(Alert)
class AlertAdmin(HistoryAdmin):
    """Raised and resolved by the platform; a person says who looks at it."""

    list_display = (
        "last_at",
        "level",
        "kind",
        "subject",
        "message",
        "count",
        "acknowledged_by",
        "resolved_at",
    )
    list_filter = (StateFilter, "severity", Since)
    list_select_related = ("acknowledged_by",)
    search_fields = ("kind", "subject", "message")
    ordering = ("-id",)
    actions = ("acknowledge",)
    fields = (
        "kind", "level", "subject", "message", "details", "count", "first_at", "last_at", "acknowledged_at",
        "acknowledged_by", "resolved_at",
    )  # fmt: skip

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("ops.change_alert"))

    @admin.action(description="Acknowledge: I look at it", permissions=["acknowledge"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        taken = [alert for alert in queryset if alerts.acknowledge(alert, cast(User, request.user))]
        for alert in taken:
            self.log_change(request, alert, "acknowledged")
        self.message_user(request, f"{len(taken)} alerts acknowledged")

    @admin.display(description="severity", ordering="severity")
    def level(self, alert: Alert) -> SafeString:
        return badge(alert.severity, _COLOURS[alert.severity])


@admin.register(Email)
class EmailAdmin(HistoryAdmin):
    """Whom the platform wrote to; the address is on the user's page."""

    list_display = ("created_at", "user", "subject", "attempts", "sent_at", "error")
    list_filter = (Since,)
    list_select_related = ("user",)
    search_owner = "user"
    search_ids = ("pk", "user_id")
    search_help_text = "The id of an e-mail or a user, or a part of a user's name"
    ordering = ("-id",)
    fields = ("created_at", "user", "subject", "body", "attempts", "due_at", "sent_at", "error")


@admin.register(Bill)
class BillAdmin(HistoryAdmin):
    list_display = ("provider", "source", "starts_at", "ends_at", "imported_at")
    list_filter = ("provider",)
    search_fields = ("source",)
    ordering = ("-id",)
    fields = ("provider", "source", "starts_at", "ends_at", "imported_at")


@admin.register(BillLine)
class BillLineAdmin(HistoryAdmin):
    list_display = ("at", "provider", "task_id", "amount", "bill")
    list_filter = (Since,)
    list_select_related = ("bill",)
    search_fields = ("task_id__exact",)
    search_help_text = "The provider's id of a task"
    ordering = ("-id",)
    fields = ("at", "provider", "task_id", "amount", "bill")

    @admin.display(description="amount", ordering="amount_usd")
    def amount(self, line: BillLine) -> str:
        return usd(line.amount_usd)


@admin.register(TaskResult)
class TaskResultAdmin(HistoryAdmin):
    list_display = ("task_name", "status", "worker", "date_created", "date_done")
    list_filter = ("status", "task_name")
    search_fields = ("task_name", "task_id", "task_kwargs")
    date_hierarchy = "date_done"
    ordering = ("-date_done",)
    fields = (
        "task_name",
        "status",
        "task_id",
        "task_kwargs",
        "worker",
        "date_created",
        "date_started",
        "date_done",
        "result",
        "traceback",
    )

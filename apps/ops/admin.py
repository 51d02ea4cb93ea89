"""The admin's first page, alerts and who was told of them, what is usual, what providers billed, and what Celery kept:
results of periodic tasks and every failure, to look at."""

from datetime import timedelta
from typing import Any, Final, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django_celery_results.models import GroupResult, TaskResult

from apps.accounts.models import User
from apps.core import clock
from apps.core.admin import HistoryAdmin, HistoryInline, ModelAdmin, Since, badge, usd
from apps.ops import alerts, user_page
from apps.ops.anomalies.metrics import METRICS
from apps.ops.models import Alert, Baseline, Bill, BillLine, Email, Notice, Silence

admin.site.index_title = "Today"
admin.site.index_template = "ops/dashboard.html"
admin.site.unregister(GroupResult)  # the platform has no groups: rows, not chords, are its workflow
admin.site.unregister(TaskResult)

# Accounts know nothing of money: the page of a user that shows both is made here, above them.
admin.site.unregister(User)
admin.site.register(User, user_page.UserPage)

_SILENT_FOR: Final = timedelta(hours=4)
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


class NoticeInline(HistoryInline):
    model = Notice
    fields = ("created_at", "event", "channel", "attempts", "sent_at", "error")


@admin.register(Alert)
class AlertAdmin(HistoryAdmin):
    """Raised and resolved by the platform; a person says who looks at it, and whether others are told."""

    inlines = (NoticeInline,)
    list_display = (
        "last_at",
        "level",
        "kind",
        "subject",
        "message",
        "count",
        "acknowledged_by",
        "silenced",
        "resolved_at",
    )
    list_filter = (StateFilter, "severity", Since)
    list_select_related = ("acknowledged_by",)
    search_fields = ("kind", "subject", "message")
    ordering = ("-id",)
    actions = ("acknowledge", "silence")
    fields = (
        "kind", "key", "level", "subject", "message", "details", "count", "first_at", "last_at", "acknowledged_at",
        "acknowledged_by", "silenced", "resolved_at",
    )  # fmt: skip

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("ops.change_alert"))

    @admin.action(description="Acknowledge: I look at it", permissions=["acknowledge"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        taken = [alert for alert in queryset if alerts.acknowledge(alert, cast(User, request.user))]
        for alert in taken:
            self.log_change(request, alert, "acknowledged")
        self.message_user(request, f"{len(taken)} alerts acknowledged")

    def has_silence_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("ops.add_silence"))

    @admin.action(description="Silence for four hours: tell nobody", permissions=["silence"])
    def silence(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        by, until = cast(User, request.user), clock.now() + _SILENT_FOR
        for alert in queryset:
            made = Silence.objects.create(
                pattern=alert.key, until=until, reason=f"alert {alert}"[:200], created_by=by
            )
            self.log_change(request, alert, f"silenced: {made}")
        self.message_user(request, f"{len(queryset)} alerts silenced until {until:%H:%M} UTC")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alert]:
        """The silences are few, and read once for a page."""
        self._silences = list(Silence.objects.in_force())
        return super().get_queryset(request)

    @admin.display(description="silenced", boolean=True)
    def silenced(self, alert: Alert) -> bool:
        return any(silence.covers(alert.key) for silence in self._silences)

    @admin.display(description="severity", ordering="severity")
    def level(self, alert: Alert) -> SafeString:
        return badge(alert.severity, _COLOURS[alert.severity])


@admin.register(Silence)
class SilenceAdmin(ModelAdmin):
    """Each made, changed or ended by somebody, which its history tells."""

    list_display = ("pattern", "until", "reason", "created_by", "created_at")
    list_filter = (Since,)
    list_select_related = ("created_by",)
    search_fields = ("pattern", "reason")
    ordering = ("-until",)
    fields = ("pattern", "until", "reason")

    def save_model(self, request: HttpRequest, obj: Silence, form: Any, change: bool) -> None:
        if not change:
            obj.created_by = cast(User, request.user)
        super().save_model(request, obj, form, change)


@admin.register(Notice)
class NoticeAdmin(HistoryAdmin):
    """Who was told of what, by the digest of an address."""

    list_display = ("created_at", "alert", "event", "channel", "attempts", "sent_at", "error")
    list_filter = ("event", Since)
    list_select_related = ("alert",)
    search_fields = ("channel", "alert__key")
    ordering = ("-id",)
    fields = ("created_at", "alert", "event", "channel", "attempts", "due_at", "sent_at", "error")


@admin.register(Baseline)
class BaselineAdmin(HistoryAdmin):
    """What is usual, as the watch for anomalies learned it."""

    list_display = ("metric", "model", "provider", "state", "now", "is_usual", "z", "hours", "seen_at")
    list_filter = ("metric", "severity")
    search_fields = ("model", "provider")
    ordering = ("metric", "model", "provider")
    fields = (
        "metric", "model", "provider", "state", "now", "is_usual", "z", "hours", "median", "mad", "mean", "deviation",
        "seen_at", "season",
    )  # fmt: skip

    @admin.display(description="state", ordering="severity")
    def state(self, row: Baseline) -> SafeString:
        return badge(row.severity or "usual", _COLOURS.get(row.severity, "success"))

    @admin.display(description="lately")
    def now(self, row: Baseline) -> str:
        return METRICS[row.metric].text(row.value)

    @admin.display(description="usual")
    def is_usual(self, row: Baseline) -> str:
        return METRICS[row.metric].text(row.usual)


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

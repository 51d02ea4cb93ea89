"""Ops' page of batches: how far each is, what it costs, and the way to its jobs. A batch can only be canceled."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.batches import cancel, documents
from apps.batches.models import Batch, BatchStatus
from apps.core import clock
from apps.core.admin import HistoryAdmin, Since, badge, bar, usd

_COLOURS: dict[str, str] = {
    BatchStatus.IN_PROGRESS: "info",
    BatchStatus.CANCELING: "warning",
    BatchStatus.COMPLETED: "success",
    BatchStatus.CANCELED: "warning",
    BatchStatus.EXPIRED: "danger",
}
_MAX_SHOWN = 20


@admin.register(Batch)
class BatchAdmin(HistoryAdmin):
    list_display = ("id", "user", "team", "state", "done", "items", "cost", "held", "created_at", "jobs")
    list_filter = ("status", Since)
    list_select_related = ("user", "team")
    search_owner = "user"
    search_ids = ("pk", "user_id")
    search_help_text = "The id of a batch or a user, or a part of a user's name"
    ordering = ("-id",)
    actions = ("cancel",)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("state", "done"),
                    ("user", "team"),
                    "items",
                    ("cost", "held"),
                    "jobs",
                    "refused_lines",
                )
            },
        ),
        ("Request", {"classes": ["tab"], "fields": ("metadata", "callback_url", "idempotency_key")}),
        ("Money", {"classes": ["tab"], "fields": (("estimated", "saved"),)}),
        (
            "Times",
            {
                "classes": ["tab"],
                "fields": (("created_at", "finished_at"), ("expires_at", "ends"), "cancel_requested_at"),
            },
        ),
    )

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("batches.change_batch"))

    @admin.action(description="Cancel", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Batch]) -> None:
        asked = [batch for batch in queryset if cancel.ask(batch.pk)]
        for batch in asked:
            self.log_change(request, batch, "asked to cancel")
        self.message_user(request, f"{len(asked)} batches will be canceled")

    @admin.display(description="status", ordering="status")
    def state(self, batch: Batch) -> SafeString:
        return badge(batch.status, _COLOURS[batch.status])

    @admin.display(description="done")
    def done(self, batch: Batch) -> SafeString:
        """A bar: what ended well, and what ended otherwise."""
        parts = (
            ("completed", batch.completed, "green"),
            ("ended otherwise", batch.ended - batch.completed, "red"),
        )
        shares = ((name, count / batch.total, colour) for name, count, colour in parts)
        return bar(f"{100 * batch.progress:.0f}\u00a0%", *shares)

    @admin.display(description="items")
    def items(self, batch: Batch) -> str:
        parts = {
            "completed": batch.completed,
            "from the cache": batch.cached,
            "failed": batch.failed,
            "canceled": batch.canceled,
            "expired": batch.expired,
            "refused": batch.refused,
        }
        named = [f"{count:,} {name}" for name, count in parts.items() if count]
        return ", ".join([f"{batch.total:,}", *named])

    @admin.display(description="cost", ordering="cost_usd")
    def cost(self, batch: Batch) -> str:
        return usd(batch.cost_usd)

    @admin.display(description="held")
    def held(self, batch: Batch) -> str:
        return usd(batch.held_usd)

    @admin.display(description="estimated")
    def estimated(self, batch: Batch) -> str:
        return usd(batch.estimated_cost_usd)

    @admin.display(description="saved by the cache")
    def saved(self, batch: Batch) -> str:
        return usd(batch.saved_usd)

    @admin.display(description="done at this pace")
    def ends(self, batch: Batch) -> Any:
        return batch.ends_at(clock.now()) or "–"

    @admin.display(description="see also")
    def jobs(self, batch: Batch) -> SafeString:
        address = reverse("admin:jobs_job_changelist")
        return format_html('<a class="text-link" href="{}?q={}">Jobs</a>', address, batch.pk)

    @admin.display(description="refused lines")
    def refused_lines(self, batch: Batch) -> SafeString | str:
        """The first of them."""
        first = batch.refusals.order_by("id")[:_MAX_SHOWN]
        lines = (
            (fault["line"], fault["custom_id"] or "", fault["field"], fault["message"])
            for refusal in first
            for fault in documents.faults(refusal)
        )
        return format_html_join("", "<div>{} {} {}: {}</div>", lines) or "–"

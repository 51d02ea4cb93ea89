"""Ops' pages of what was told to whom. All of it is history; a delivery can be sent again."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from apps.core.admin import HistoryAdmin, HistoryInline, Since, badge, link
from apps.webhooks import again
from apps.webhooks.models import Delivery, DeliveryAttempt, Event

_COLOURS: dict[str, str] = {
    Delivery.Status.PENDING: "info",
    Delivery.Status.DELIVERED: "success",
    Delivery.Status.EXHAUSTED: "danger",
    Delivery.Status.DISABLED: "warning",
}


def _state(delivery: Delivery) -> SafeString:
    return badge(delivery.status, _COLOURS[delivery.status])


class DeliveryInline(HistoryInline):
    model = Delivery
    verbose_name_plural = "Deliveries"
    fields = ("to", "state", "attempts", "due_at")
    readonly_fields = fields

    @admin.display(description="to")
    def to(self, delivery: Delivery) -> SafeString:
        return link(Delivery, delivery.pk, delivery.url)

    @admin.display(description="status")
    def state(self, delivery: Delivery) -> SafeString:
        return _state(delivery)


class AttemptInline(HistoryInline):
    model = DeliveryAttempt
    verbose_name_plural = "Attempts"
    fields = ("at", "status_code", "latency_ms", "error")
    readonly_fields = fields
    ordering = ("id",)


@admin.register(Event)
class EventAdmin(HistoryAdmin):
    list_display = ("created_at", "type", "subject_id", "team")
    list_filter = (Since,)
    list_select_related = ("team",)
    search_owner = "team"
    search_ids = ("pk", "subject_id", "team_id")
    search_help_text = "The id of an event, its subject or team, or a part of a team's name"
    ordering = ("-id",)
    fields = ("id", "type", "subject_id", "team", "created_at", "payload")
    inlines = (DeliveryInline,)


@admin.register(Delivery)
class DeliveryAdmin(HistoryAdmin):
    list_display = ("id", "of_event", "url", "state", "attempts", "due_at")
    list_filter = ("status", Since)
    list_select_related = ("event",)
    search_owner = "event__team"
    search_ids = ("pk", "event_id", "event__subject_id")
    search_help_text = "The id of a delivery, its event or its subject, or a part of a team's name"
    ordering = ("-id",)
    actions = ("send_again",)
    fields = ("of_event", "url", "state", "attempts", "due_at", "rung_at", "lease", "lease_expires_at")
    inlines = (AttemptInline,)

    def has_send_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("webhooks.change_delivery"))

    @admin.action(description="Send again", permissions=["send"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        sent = [delivery for delivery in queryset if again.send(delivery.pk)]
        for delivery in sent:
            self.log_change(request, delivery, "sent again")
        self.message_user(request, f"{len(sent)} deliveries will be sent now")

    @admin.display(description="event")
    def of_event(self, delivery: Delivery) -> SafeString:
        return link(Event, delivery.event_id, f"{delivery.event.type} {delivery.event.subject_id}")

    @admin.display(description="status", ordering="status")
    def state(self, delivery: Delivery) -> SafeString:
        return _state(delivery)

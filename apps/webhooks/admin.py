"""Ops' pages of who is told, and of what was told to whom. That is history; a delivery can be sent again."""

from typing import TYPE_CHECKING

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from apps.core import http
from apps.core.admin import HistoryAdmin, HistoryInline, ModelAdmin, Since, badge, link
from apps.webhooks import again
from apps.webhooks.models import Delivery, DeliveryAttempt, Endpoint, Event, EventType

if TYPE_CHECKING:  # generic in the stubs only
    EndpointModelForm = forms.ModelForm[Endpoint]
else:
    EndpointModelForm = forms.ModelForm

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


class EndpointForm(EndpointModelForm):
    event_types = forms.MultipleChoiceField(
        choices=EventType.choices,
        initial=EventType.values,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"]
        try:
            http.check_url(url)
        except http.UnsafeUrl as error:
            raise forms.ValidationError(str(error)) from error
        return url


@admin.register(Endpoint)
class EndpointAdmin(ModelAdmin):
    """Teams keep their own by the API; ops may help, or stop one."""

    form = EndpointForm
    list_display = ("url", "team", "event_types", "active", "created_at")
    list_filter = ("active",)
    list_select_related = ("team",)
    search_fields = ("url", "team__name")
    autocomplete_fields = ("team",)
    fields = ("team", "url", "event_types", "active")

    def get_readonly_fields(self, request: HttpRequest, obj: Endpoint | None = None) -> tuple[str, ...]:
        return ("team",) if obj else ()


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

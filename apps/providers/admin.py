from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from apps.providers.models import InboxEvent, Provider


@admin.register(Provider)
class ProviderAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    list_display = ["slug", "name", "enabled"]
    list_editable = ["enabled"]


@admin.register(InboxEvent)
class InboxEventAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """History: what providers told us, never changed."""

    list_display = ["received_at", "provider", "event_id", "subject_id", "task_id"]
    list_filter = ["provider"]
    search_fields = ["event_id", "task_id"]
    ordering = ["-received_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: InboxEvent | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: InboxEvent | None = None) -> bool:
        return False

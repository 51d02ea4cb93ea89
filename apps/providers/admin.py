"""Ops' pages of the providers: the switch of each, and what they told us."""

from collections.abc import Iterable

from django.conf import settings
from django.contrib import admin

from apps.core.admin import HistoryAdmin, ModelAdmin, Since, WordFilter
from apps.providers.models import InboxEvent, Provider


class ProviderFilter(WordFilter):
    title = parameter_name = "provider"

    def words(self) -> Iterable[str]:
        return list(settings.PROVIDERS)


@admin.register(Provider)
class ProviderAdmin(ModelAdmin):
    list_display = ("slug", "name", "enabled")
    list_editable = ("enabled",)
    ordering = ("slug",)


@admin.register(InboxEvent)
class InboxEventAdmin(HistoryAdmin):
    list_display = ("received_at", "provider", "event_id", "subject_id", "task_id")
    list_filter = (ProviderFilter, Since)
    search_fields = ("event_id__exact",)
    search_help_text = "The provider's id of an event"
    ordering = ("-id",)

"""Ops' pages of the cache. Deleting a result purges it: the next request like it is generated again."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from apps.caching.models import CachedResult
from apps.core.admin import HistoryAdmin, ModelAdmin, Since, usd


@admin.register(CachedResult)
class CachedResultAdmin(HistoryAdmin):
    list_display = ("id", "team", "model", "cost", "created_at", "expires_at")
    list_filter = (Since,)
    list_select_related = ("team",)
    search_owner = "team"
    search_ids = ("pk", "team_id")
    search_help_text = "The id of a result or a team, or a part of a team's name"
    ordering = ("-id",)
    fields = ("team", "model", "source_id", "cost", "files", "key", "created_at", "expires_at")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return ModelAdmin.has_delete_permission(self, request, obj)

    @admin.display(description="cost", ordering="cost_usd")
    def cost(self, result: CachedResult) -> str:
        return usd(result.cost_usd)

    @admin.display(description="fingerprint")
    def key(self, result: CachedResult) -> str:
        return bytes(result.fingerprint).hex()

    @admin.display(description="outputs")
    def files(self, result: CachedResult) -> SafeString:
        rows = ((output["artifact_id"], output["media_type"]) for output in result.outputs)
        return format_html_join("\n", "{} ({})<br>", rows)

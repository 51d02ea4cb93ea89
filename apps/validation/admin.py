"""Ops' pages of what may be made: standards, policy lists, the takedown list. Edits hold in every process within
seconds, and the admin's history keeps who made them."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from apps.core.admin import HistoryAdmin, ModelAdmin, usd
from apps.validation import policy, standards, takedowns
from apps.validation.models import JudgeDay, PolicyList, QualityStandard, Takedown


@admin.register(QualityStandard)
class QualityStandardAdmin(ModelAdmin):
    list_display = ("__str__", "min_technical", "min_alignment", "max_unsafe", "required", "shadow")
    list_filter = ("model",)
    autocomplete_fields = ("team",)
    ordering = ("model", "team__name")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        standards.forget()


@admin.register(PolicyList)
class PolicyListAdmin(ModelAdmin):
    list_display = ("name", "kind", "action", "category", "active", "version", "changed_at")
    list_filter = ("kind", "action", "active")
    search_fields = ("name", "terms")
    readonly_fields = ("version", "changed_at")
    ordering = ("name",)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        policy.forget()

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """The words of this version go into the history: that is what makes it a version."""
        words = f"version {obj.version} ({obj.action}, {'active' if obj.active else 'off'}): {obj.terms}"
        return super().log_change(request, obj, f"{words[:2000]}")


@admin.register(Takedown)
class TakedownAdmin(ModelAdmin):
    list_display = ("reason", "sha256", "phash", "created_at")
    search_fields = ("reason", "sha256", "phash")
    ordering = ("-id",)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        takedowns.forget()


@admin.register(JudgeDay)
class JudgeDayAdmin(HistoryAdmin):
    """What the vision judge cost the platform, day by day (UTC)."""

    list_display = ("day", "asked", "spent")
    ordering = ("-day",)
    fields = ("day", "asked", "spent")

    @admin.display(description="spent, at most")
    def spent(self, day: JudgeDay) -> str:
        return usd(day.spent_usd)

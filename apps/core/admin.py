"""The bases of every admin page: unfold's look, and rows that are history."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

if TYPE_CHECKING:  # unfold has no types; its classes are Django's with another look
    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
else:
    from unfold.admin import ModelAdmin, TabularInline

__all__ = ["HistoryAdmin", "HistoryInline", "ModelAdmin", "TabularInline"]


class _History:
    """What has happened is looked at: nothing is added, changed or deleted."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class HistoryAdmin(_History, ModelAdmin):
    """Read-only pages of one model."""


class HistoryInline(_History, TabularInline):
    """Read-only rows on the page of what they belong to."""

    extra = 0

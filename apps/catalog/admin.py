"""Ops' pages of the catalog. What is edited here is no longer overwritten by the catalog file."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.catalog import snapshot
from apps.catalog.models import GenerationModel, Kept, Price, Route, RouteStats
from apps.core.admin import HistoryInline, ModelAdmin


class KeptAdmin(ModelAdmin):
    """An edit marks the row as ops' own; an action gives it back to the file."""

    actions: tuple[str, ...] = ("give_back",)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change or form.changed_data:
            obj.managed = False
        super().save_model(request, obj, form, change)
        snapshot.forget()

    def delete_model(self, request: HttpRequest, obj: Kept) -> None:
        super().delete_model(request, obj)
        snapshot.forget()

    @admin.action(description="Let sync_catalog manage it again", permissions=["change"])
    def give_back(self, request: HttpRequest, queryset: QuerySet[Kept]) -> None:
        rows = [row for row in queryset if not row.managed]
        queryset.filter(pk__in=[row.pk for row in rows]).update(managed=True)
        for row in rows:
            self.log_change(request, row, "given back to the catalog file")
        self.message_user(request, f"{len(rows)} rows will follow the catalog file from its next sync")


class RouteInline(HistoryInline):
    model = Route
    fields = ("provider", "provider_model", "position", "weight", "active", "managed")
    readonly_fields = fields
    show_change_link = True


class PriceInline(HistoryInline):
    model = Price
    fields = (
        "version",
        "unit",
        "unit_price_usd",
        "multipliers",
        "batch_discount",
        "effective_at",
        "managed",
    )
    readonly_fields = fields
    ordering = ("-version",)


class StatsInline(HistoryInline):
    model = RouteStats
    fields = ("samples", "success_rate", "p50_s", "p95_s", "measured_at")
    readonly_fields = fields


@admin.register(GenerationModel)
class GenerationModelAdmin(KeptAdmin):
    list_display = ("slug", "kind", "quality", "version", "routing", "active", "retired_at", "managed")
    list_filter = ("kind", "active", "commercial_use", "managed")
    search_fields = ("slug", "name")
    ordering = ("kind", "quality")
    autocomplete_fields = ("successor",)
    inlines = (RouteInline,)

    def get_readonly_fields(
        self, request: HttpRequest, obj: GenerationModel | None = None
    ) -> tuple[str, ...]:
        return ("slug", "managed") if obj else ("managed",)


@admin.register(Route)
class RouteAdmin(KeptAdmin):
    list_display = ("model", "position", "provider", "provider_model", "weight", "active", "managed")
    list_filter = ("provider", "active", "managed")
    search_fields = ("model__slug", "provider", "provider_model")
    ordering = ("model", "position")
    autocomplete_fields = ("model",)
    readonly_fields = ("managed",)
    inlines = (StatsInline, PriceInline)


@admin.register(Price)
class PriceAdmin(KeptAdmin):
    """Append-only: a change is a new version, in force from its `effective_at`."""

    actions = ()
    list_display = ("route", "version", "unit", "unit_price_usd", "effective_at", "managed")
    list_filter = ("unit", "managed")
    list_select_related = ("route",)
    search_fields = ("route__model__slug", "route__provider")
    ordering = ("route", "-version")
    autocomplete_fields = ("route",)
    fields = ("route", "unit", "unit_price_usd", "multipliers", "batch_discount", "effective_at")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        # Locked, so that two prices added at once get two versions.
        Route.objects.select_for_update().get(pk=obj.route_id)
        last = Price.objects.filter(route=obj.route).order_by("-version").first()
        obj.version = last.version + 1 if last else 1
        super().save_model(request, obj, form, change)

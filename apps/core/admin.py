"""The bases of every admin page: unfold's look, rows that are history, and lists as quick over a huge table as
over a small one."""

import uuid
from collections.abc import Iterable
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.utils import get_fields_from_path
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.core import clock, ids, money

if TYPE_CHECKING:  # unfold has no types; its classes are Django's with another look
    from decimal import Decimal

    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
    RowPaginator = Paginator[Any]
else:
    from unfold.admin import ModelAdmin, TabularInline

    RowPaginator = Paginator

__all__ = [
    "BoundedPaginator",
    "HistoryAdmin",
    "HistoryInline",
    "ModelAdmin",
    "Since",
    "TabularInline",
    "WordFilter",
    "badge",
    "link",
    "usd",
]

_MAX_COUNTED = 10_000
_MAX_OWNERS = 100
_SPANS = {
    "hour": ("Past hour", timedelta(hours=1)),
    "day": ("Past 24 hours", timedelta(days=1)),
    "week": ("Past 7 days", timedelta(days=7)),
    "month": ("Past 30 days", timedelta(days=30)),
}


class _History:
    """What has happened is looked at: nothing is added, changed or deleted."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class BoundedPaginator(RowPaginator):
    """Counts, and turns pages, no further than 10,000 rows: what lies beyond is found by search and filters."""

    @cached_property
    def count(self) -> int:
        return len(self.object_list) if isinstance(self.object_list, list) else self._bounded()

    def _bounded(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]  # a list is handled above
        return rows.order_by()[:_MAX_COUNTED].count()


class HistoryAdmin(_History, ModelAdmin):
    """Read-only pages of one model, which may have very many rows."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    # Columns that hold ids, each with an index: asked in this order, for a term that is an id.
    search_ids: tuple[str, ...] = ()
    # The way to the user or team: other terms are looked up there, as on that page, and its rows are found by key.
    search_owner = ""

    def get_search_fields(self, request: HttpRequest) -> Any:
        return self.search_fields or tuple(filter(None, (self.search_owner,)))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        wanted = _uuid(search_term)
        if wanted and self.search_ids:
            return self._by_id(queryset, wanted), False
        if search_term and self.search_owner:
            return queryset.filter(**{f"{self.search_owner}__in": self._owners(request, search_term)}), False
        return super().get_search_results(request, queryset, search_term)

    def _by_id(self, queryset: QuerySet[Any], wanted: uuid.UUID) -> QuerySet[Any]:
        """One column at a time: no index serves an OR over several tables."""
        for column in self.search_ids:
            found = queryset.filter(**{column: wanted})
            if found.exists():
                return found
        return queryset.none()

    def _owners(self, request: HttpRequest, term: str) -> list[Any]:
        owner: Any = get_fields_from_path(self.model, self.search_owner)[-1].related_model
        page = self.admin_site.get_model_admin(owner)
        found, _ = page.get_search_results(request, owner._default_manager.order_by("pk"), term)
        return list(found.values_list("pk", flat=True)[:_MAX_OWNERS])


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text.strip())
    except ValueError:
        return None


class HistoryInline(_History, TabularInline):
    """Read-only rows on the page of what they belong to."""

    extra = 0
    hide_title = True


class Since(admin.SimpleListFilter):
    """When a row was made, read from its time-ordered id: a range of the primary key."""

    title, parameter_name = "made in the", "since"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(word, label) for word, (label, _) in _SPANS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in _SPANS:
            return queryset
        _, span = _SPANS[str(self.value())]
        return queryset.filter(pk__gte=ids.since(clock.now() - span))


class WordFilter(admin.SimpleListFilter):
    """A column of words that are known from elsewhere: asking the table for them would read all of it."""

    def words(self) -> Iterable[str]:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(word, word) for word in self.words()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset


def badge(word: str, colour: str) -> SafeString:
    """A word on a coloured ground: success, info, warning, danger or none."""
    return render_to_string("unfold/helpers/label.html", {"text": word, "type": colour})


def bar(title: str, *parts: tuple[str, float, str]) -> SafeString:
    """How far something is. `parts`: each with its name, its share of the whole (0 to 1) and its colour."""
    items = [
        {"title": name, "value": f"{100 * share:.1f}", "progress_class": f"bg-{colour}-600"}
        for name, share, colour in parts
    ]
    return render_to_string("unfold/components/progress.html", {"items": items, "title": title})


def link(model: type[Model], pk: Any, text: str) -> SafeString:
    """To the admin page of one row."""
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[pk])
    return format_html('<a class="text-link" href="{}">{}</a>', address, text)


def usd(amount: "Decimal | None") -> str:
    """`$0.025`, `-$0.025`; a dash where nothing is known."""
    if amount is None:
        return "–"
    return f"{'-' if amount < 0 else ''}${money.text(abs(amount))}"

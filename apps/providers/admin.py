"""Ops' pages of the providers: the switch of each, and what they told us."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, Literal

import redis
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.core.admin import HistoryAdmin, ModelAdmin, Since, WordFilter, badge
from apps.providers import breaker_store, health, limiter
from apps.providers.breaker import State
from apps.providers.breaker_store import Name
from apps.providers.models import InboxEvent, Provider


class ProviderFilter(WordFilter):
    title = parameter_name = "provider"

    def words(self) -> Iterable[str]:
        return list(settings.PROVIDERS)


_COLOURS = {"ok": "success", "degraded": "warning", "down": "danger"}
_HANDS: Final[dict[str, Literal["open", "closed", ""]]] = {
    "open": "open",
    "close": "closed",
    "automatic": "",
}


@admin.register(Provider)
class ProviderAdmin(ModelAdmin):
    list_display = ("slug", "name", "enabled", "max_concurrency", "max_per_minute", "works", "breakers")
    list_editable = ("enabled",)
    ordering = ("slug",)

    @admin.display(description="health")
    def works(self, provider: Provider) -> SafeString:
        models = {name.model for name in health.breakers() if name.provider == provider.slug and name.model}
        found = health.of((provider.slug, model) for model in models or {""})
        return badge(found.reason or found.status, _COLOURS[found.status])

    @admin.display(description="breakers")
    def breakers(self, provider: Provider) -> SafeString:
        address = reverse("admin:providers_provider_breakers", args=[provider.slug])
        return format_html('<a class="text-link" href="{}">Breakers</a>', address)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.breakers_view)
        return [path("<slug:slug>/breakers/", view, name="providers_provider_breakers"), *super().get_urls()]

    def breakers_view(self, request: HttpRequest, slug: str) -> HttpResponse:
        """Every breaker of the provider: how it stands, and a hand on it."""
        provider = self.get_object(request, slug)
        if provider is None or not self.has_change_permission(request, provider):
            raise PermissionDenied
        if request.method == "POST":
            self._lay_hand(request, provider)
            return HttpResponseRedirect(request.path)
        found = {name: state for name, state in breaker_store.states().items() if name.provider == slug}
        context = {
            **self.admin_site.each_context(request),
            "title": f"Breakers of {provider}",
            "opts": self.opts,
            "rows": [_row(name, found[name]) for name in sorted(found)],
            "limits": limiter.look(slug),
            "hands": list(_HANDS),
        }
        return TemplateResponse(request, "providers/breakers.html", context)

    def _lay_hand(self, request: HttpRequest, provider: Provider) -> None:
        key, hand = request.POST.get("breaker", ""), request.POST.get("hand", "")
        known = {name.key: name for name in breaker_store.states() if name.provider == provider.slug}
        if key not in known or hand not in _HANDS:
            raise SuspiciousOperation("no such breaker")
        name = known[key]
        try:
            breaker_store.force(name, _HANDS[hand])
        except redis.RedisError:
            self.message_user(request, "Redis is away: nothing was changed", messages.ERROR)
            return
        health.forget()
        self.log_change(request, provider, f"breaker {name.kind} {name.model}: {hand}")
        self.message_user(request, f"{name.kind} {name.model}: {hand}")


def _row(name: Name, state: State) -> dict[str, Any]:
    word = f"forced {state.forced}" if state.forced else state.state
    down = health.is_open(state)
    return {
        "key": name.key,
        "kind": name.kind,
        "model": name.model,
        "state": badge(word, "danger" if down else "warning" if state.state == "half_open" else "success"),
        "reason": state.reason,
        "since": datetime.fromtimestamp(state.since / 1000, UTC) if state.since else None,
        "calls": sum(kept[0] for kept in state.buckets.values()),
        "failures": sum(kept[1] for kept in state.buckets.values()),
    }


@admin.register(InboxEvent)
class InboxEventAdmin(HistoryAdmin):
    list_display = ("received_at", "provider", "event_id", "subject_id", "task_id")
    list_filter = (ProviderFilter, Since)
    search_fields = ("event_id__exact",)
    search_help_text = "The provider's id of an event"
    ordering = ("-id",)

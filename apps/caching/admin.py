"""Ops' pages of the cache. Deleting results purges them: the next request like them is generated again."""

from collections.abc import Callable, Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ActionForm
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from apps.caching import store
from apps.caching.models import CachedResult, SemanticMatch, Tombstone
from apps.core.admin import HistoryAdmin, ModelAdmin, Since, WordFilter, badge, usd


class _WithPrompt(ActionForm):
    """Erasure of what nobody finds by its id: the prompt as the user wrote it."""

    prompt = forms.CharField(required=False, max_length=10_000, label="Prompt")


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

    action_form = _WithPrompt
    actions = ("purge_like", "purge_model", "purge_team")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return ModelAdmin.has_delete_permission(self, request, obj)

    def has_purge_permission(self, request: HttpRequest) -> bool:
        return self.has_delete_permission(request)

    @admin.action(
        description="Purge their prompts (or the one given), in any rewording", permissions=["purge"]
    )
    def purge_like(self, request: HttpRequest, chosen: QuerySet[CachedResult]) -> None:
        given = request.POST.get("prompt", "").strip()
        self._purge(request, chosen, "the prompt", lambda result: {"prompt": given or result.prompt})

    @admin.action(description="Purge all of their team and model", permissions=["purge"])
    def purge_model(self, request: HttpRequest, chosen: QuerySet[CachedResult]) -> None:
        self._purge(request, chosen, "the model", lambda result: {"model": result.model})

    @admin.action(description="Purge all of their team", permissions=["purge"])
    def purge_team(self, request: HttpRequest, chosen: QuerySet[CachedResult]) -> None:
        self._purge(request, chosen, "everything", lambda _: {})

    def _purge(
        self,
        request: HttpRequest,
        chosen: QuerySet[CachedResult],
        what: str,
        of: Callable[[CachedResult], dict[str, Any]],
    ) -> None:
        """What each chosen result stands for, in its team. Who did it is in the history of the result, though it is
        gone; the words of a prompt are not: they are the user's."""
        count = 0
        for result in chosen.select_related("team"):
            purged = store.purge(team_id=result.team_id, **of(result))
            self.log_change(request, result, f"purged {what} of {result.team}: {purged} results")
            count += purged
        self.message_user(request, f"{count} results purged")

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


class _Served(WordFilter):
    title, parameter_name = "what became of it", "served"

    def words(self) -> Iterable[str]:
        return ("True", "False")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("True", "served"), ("False", "in shadow")]


class _Judged(WordFilter):
    title, parameter_name = "verdict", "judged"

    def words(self) -> Iterable[str]:
        return ("right", "wrong")


@admin.register(SemanticMatch)
class SemanticMatchAdmin(HistoryAdmin):
    """Look-alikes of tier 3. A verdict counts for every match that differs in the same way, at once."""

    list_display = ("id", "team", "similar", "signature", "kind", "verdict", "saves", "created_at")
    list_filter = (Since, _Served, _Judged)
    list_select_related = ("team",)
    search_owner = "team"
    search_ids = ("pk", "subject_id", "team_id")
    search_help_text = "The id of a match, a job or a team, or a part of a team's name"
    ordering = ("-id",)
    fields = (
        "team",
        "subject_id",
        "source_id",
        "similar",
        "probability",
        "signature",
        "kind",
        "verdict",
        "saves",
        "created_at",
    )
    actions = ("say_right", "say_wrong")

    def has_judge_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("caching.change_semanticmatch")

    @admin.action(description="The same picture: a right match", permissions=["judge"])
    def say_right(self, request: HttpRequest, chosen: QuerySet[SemanticMatch]) -> None:
        chosen.update(judged=SemanticMatch.Judged.RIGHT)

    @admin.action(description="Another picture: a wrong match", permissions=["judge"])
    def say_wrong(self, request: HttpRequest, chosen: QuerySet[SemanticMatch]) -> None:
        chosen.update(judged=SemanticMatch.Judged.WRONG)

    @admin.display(description="similarity", ordering="similarity")
    def similar(self, match: SemanticMatch) -> str:
        return f"{match.similarity:.3f}"

    @admin.display(description="what became of it")
    def kind(self, match: SemanticMatch) -> SafeString:
        return badge("served", "success") if match.served else badge("in shadow", "info")

    @admin.display(description="verdict")
    def verdict(self, match: SemanticMatch) -> SafeString:
        colours = {"right": "success", "wrong": "danger"}
        return badge(match.judged or "none yet", colours.get(match.judged, ""))

    @admin.display(description="saves", ordering="saved_usd")
    def saves(self, match: SemanticMatch) -> str:
        return usd(match.saved_usd)


@admin.register(Tombstone)
class TombstoneAdmin(HistoryAdmin):
    """Pairs of a question and a result that is no answer to it."""

    list_display = ("id", "team", "source_id", "created_at")
    list_filter = (Since,)
    list_select_related = ("team",)
    search_owner = "team"
    search_ids = ("pk", "team_id")
    search_help_text = "The id of a tombstone or a team, or a part of a team's name"
    ordering = ("-id",)
    fields = ("team", "source_id", "question", "created_at")

    @admin.display(description="key of the question")
    def question(self, tombstone: Tombstone) -> str:
        return bytes(tombstone.asked).hex()

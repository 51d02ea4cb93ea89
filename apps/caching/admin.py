"""Ops' pages of the cache. Deleting results purges them: the next request like them is generated again."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from apps.caching.models import CachedResult, SemanticMatch, Tombstone
from apps.core.admin import HistoryAdmin, ModelAdmin, Since, WordFilter, badge, usd


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

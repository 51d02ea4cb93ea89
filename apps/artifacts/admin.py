"""Ops' pages of the files that we hold."""

from django.contrib import admin
from django.template.defaultfilters import filesizeformat
from django.utils.safestring import SafeString

from apps.artifacts import preview
from apps.artifacts.models import Artifact
from apps.core.admin import HistoryAdmin, Since


@admin.register(Artifact)
class ArtifactAdmin(HistoryAdmin):
    list_display = ("thumbnail", "id", "media_type", "size", "measures", "team", "created_at", "deleted_at")
    list_display_links = ("id",)
    list_filter = (Since,)
    list_select_related = ("team",)
    search_owner = "team"
    search_ids = ("pk", "team_id")
    search_help_text = "The id of an artifact or a team, or a part of a team's name"
    ordering = ("-id",)
    fields = (
        "content", "team", "media_type", "size", "measures", "sha256", "storage_key",
        "created_at", "expires_at", "quarantined_at", "deleted_at",
    )  # fmt: skip

    @admin.display(description="")
    def thumbnail(self, artifact: Artifact) -> SafeString | str:
        return _preview(artifact, height=48)

    @admin.display(description="content")
    def content(self, artifact: Artifact) -> SafeString | str:
        return _preview(artifact, height=320)

    @admin.display(description="size", ordering="size_bytes")
    def size(self, artifact: Artifact) -> str:
        return filesizeformat(artifact.size_bytes)

    @admin.display(description="measures")
    def measures(self, artifact: Artifact) -> str:
        pixels = f"{artifact.width} × {artifact.height}" if artifact.width else ""
        seconds = f"{artifact.duration_s:g} s" if artifact.duration_s else ""
        return " ".join(filter(None, (pixels, seconds)))


def _preview(artifact: Artifact, *, height: int) -> SafeString | str:
    if artifact.deleted_at:
        return "deleted"
    return preview.html(artifact.pk, artifact.media_type, height=height)

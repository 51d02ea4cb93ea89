"""A small look at an artifact for the admin: the picture itself, or a player, by a signed link."""

import uuid

from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.artifacts import store

_PICTURE = '<a href="{0}" title="{2}"><img src="{0}" alt="" loading="lazy" style="height:{1}px"></a>'
_PLAYER = '<{3} src="{0}" controls preload="none" title="{2}" style="height:{1}px"></{3}>'
_AUDIO_HEIGHT = 40


def html(artifact_id: uuid.UUID | str, media_type: str, *, height: int) -> SafeString:
    """`height` in pixels."""
    url = store.signed_url(artifact_id, reader=store.OPS)
    kind = media_type.partition("/")[0]
    if kind == "image":
        return format_html(_PICTURE, url, height, media_type)
    tag = "video" if kind == "video" else "audio"
    return format_html(_PLAYER, url, height if tag == "video" else _AUDIO_HEIGHT, media_type, tag)

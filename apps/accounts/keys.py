"""API keys: made, recognised, rotated and revoked.

A key is `gp_live_` (or `gp_test_`), 32 random base62 characters (190 bits) and 6 base62 digits: the CRC-32 of
everything before them. A mistyped or invented key is thus refused without a query. Only an HMAC-SHA256
under `API_KEY_PEPPER` is stored, so that a copy of the table opens nothing.
"""

import hmac
import re
import secrets
import string
import zlib
from collections.abc import Collection
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from apps.accounts.models import ApiKey, User
from apps.core import clock
from apps.core.errors import DomainError

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SHAPE = re.compile(r"gp_(?:live|test)_[0-9A-Za-z]{38}", re.ASCII)
_PREFIX_LENGTH = len("gp_live_") + 4


class KeyEnded(DomainError):
    code, status, title = "key_ended", 409, "The key is revoked or expired"


def issue(
    user: User,
    *,
    name: str,
    scopes: Collection[str],
    expires_at: datetime | None = None,
    live: bool = True,
) -> tuple[ApiKey, str]:
    """A new key of `user` and its text, which is never seen again.

    Raises ValueError for an unknown scope or a user without a team.
    """
    if unknown := set(scopes) - set(ApiKey.Scope.values):
        raise ValueError(f"unknown scopes: {sorted(unknown)}")
    if user.team_id is None:
        raise ValueError(f"{user} has no team: a key would open nothing")
    text = _new_text("gp_live_" if live else "gp_test_")
    key = ApiKey.objects.create(
        user=user,
        name=name,
        prefix=text[:_PREFIX_LENGTH],
        digest=_digest(text),
        scopes=sorted(scopes),
        expires_at=expires_at,
    )
    return key, text


def parse(text: str) -> bytes | None:
    """The digest a key is stored under, or None if `text` is no key of ours (shape or checksum)."""
    if not _SHAPE.fullmatch(text) or _checksum(text[:-6]) != text[-6:]:
        return None
    return _digest(text)


def contains_key(text: str) -> bool:
    """Whether something shaped like a key stands in `text`: it must not travel where logs are kept."""
    return "gp_" in text and _SHAPE.search(text) is not None


@transaction.atomic
def rotate(key: ApiKey, *, overlap_s: int) -> tuple[ApiKey, str]:
    """A successor with the same name, scopes and lifetime; the old key ends after `overlap_s`.

    Raises KeyEnded if the old key no longer works: what has ended is not prolonged by rotation.
    """
    now = clock.now()
    ends_at = now + timedelta(seconds=overlap_s)
    alive = ApiKey.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now), pk=key.pk, revoked_at=None)
    old = alive.select_for_update().select_related(None).first()
    if old is None:
        raise KeyEnded(f"{key} cannot be rotated: it is revoked or expired")
    lifetime = old.expires_at - old.created_at if old.expires_at else None
    old.expires_at = min(old.expires_at or ends_at, ends_at)
    old.save(update_fields=["expires_at"])
    return issue(
        old.user,
        name=old.name,
        scopes=old.scopes,
        expires_at=now + lifetime if lifetime else None,
        live=old.prefix.startswith("gp_live_"),
    )


def revoke(key: ApiKey) -> bool:
    """Ends the key, everywhere within a second. False if it was revoked before."""
    return ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=clock.now()) == 1


def _new_text(prefix: str) -> str:
    body = prefix + "".join(secrets.choice(_BASE62) for _ in range(32))
    return body + _checksum(body)


def _digest(text: str) -> bytes:
    return hmac.digest(settings.API_KEY_PEPPER.encode(), text.encode(), "sha256")


def _checksum(body: str) -> str:
    value, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = _BASE62[digit] + digits
    return digits

"""Is a webhook what it says it is? The checks that the schemes have in common; all raise WebhookRejected."""

import base64
import binascii
import hashlib
import hmac
import json
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from apps.core import clock
from apps.providers import http
from apps.providers.errors import ProviderError, WebhookRejected

TOLERANCE_S = 300
_MAX_ID = 255
_KEYS_KEPT = timedelta(hours=24)
_KEYS_ASKED_EVERY = timedelta(minutes=1)
_KEYS_WAIT_S = 5.0


def event_id(headers: Mapping[str, str], name: str = "webhook-id") -> str:
    """The id under which the event is stored once."""
    value = headers.get(name, "")
    if not (0 < len(value) <= _MAX_ID and value.isprintable()):
        raise WebhookRejected("no usable id")
    return value


def check_age(timestamp: str) -> None:
    """Unix seconds, at most five minutes from now, so that an old webhook can't be sent again."""
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        raise WebhookRejected("the timestamp is no number")
    if abs(clock.now().timestamp() - int(timestamp)) > TOLERANCE_S:
        raise WebhookRejected("the timestamp is too far from now")


def body(raw: bytes) -> dict[str, Any]:
    """The JSON object of a webhook whose signature holds."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise WebhookRejected("the body is not JSON") from error
    if not isinstance(value, dict):
        raise WebhookRejected("the body is no JSON object")
    return value


def task_id(value: object) -> str:
    """The provider's name of the task, as the body gives it."""
    if not isinstance(value, str) or not (0 < len(value) <= _MAX_ID and value.isprintable()):
        raise WebhookRejected("the body names no task")
    return value


def standard(secret: str, raw: bytes, headers: Mapping[str, str]) -> str:
    """The event's id, if one of the signatures holds: base64 HMAC-SHA256 over `id.timestamp.body`.

    Standard Webhooks 1.0. Its own library is not used: it goes by the wall clock and takes the body as text.
    """
    named, timestamp = event_id(headers), headers.get("webhook-timestamp", "")
    try:
        key = base64.b64decode(secret.removeprefix("whsec_") + "==")
    except binascii.Error as error:
        raise WebhookRejected("the secret is not base64") from error
    if not key:
        raise WebhookRejected("no secret to check it with")
    digest = hmac.digest(key, f"{named}.{timestamp}.".encode() + raw, "sha256")
    expected = b"v1," + base64.b64encode(digest)
    # Several while a secret is rotated, separated by spaces.
    given = headers.get("webhook-signature", "").split(" ")
    if not any(hmac.compare_digest(expected, one.encode()) for one in given):
        raise WebhookRejected("the signature is wrong")
    check_age(timestamp)
    return named


def fal(jwks_url: str, raw: bytes, headers: Mapping[str, str]) -> str:
    """The event's id, if one of the published keys made the signature: hex Ed25519 over four lines
    (https://docs.fal.ai/model-endpoints/webhooks)."""
    named, timestamp = (
        event_id(headers, "x-fal-webhook-request-id"),
        headers.get("x-fal-webhook-timestamp", ""),
    )
    # Before the keys are fetched: what is old anyway causes no traffic.
    check_age(timestamp)
    user_id = headers.get("x-fal-webhook-user-id", "")
    signed = f"{named}\n{user_id}\n{timestamp}\n{hashlib.sha256(raw).hexdigest()}".encode()
    try:
        signature = bytes.fromhex(headers.get("x-fal-webhook-signature", ""))
    except ValueError as error:
        raise WebhookRejected("the signature is not hexadecimal") from error
    if not published(jwks_url).verify(signature, signed):
        raise WebhookRejected("the signature is wrong")
    return named


class PublishedKeys:
    """A provider's Ed25519 keys, fetched from where it publishes them (RFC 7517, RFC 8037) and kept for a day.

    A signature by none of them may be by a new key, so they are fetched again, at most once a minute: a forger
    can't have us ask more often.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: tuple[Ed25519PublicKey, ...] = ()
        self._fetched_at: datetime | None = None
        self._asked_at: datetime | None = None
        self._lock = threading.Lock()

    def verify(self, signature: bytes, signed: bytes) -> bool:
        """Whether one of the keys made it."""
        if self._fetched_at is None or clock.now() - self._fetched_at > _KEYS_KEPT:
            self._fetch()
        if self._holds(signature, signed):
            return True
        self._fetch()
        return self._holds(signature, signed)

    def _holds(self, signature: bytes, signed: bytes) -> bool:
        return any(_verifies(key, signature, signed) for key in self._keys)

    def _fetch(self) -> None:
        with self._lock:
            now = clock.now()
            if self._asked_at is not None and now - self._asked_at < _KEYS_ASKED_EVERY:
                return
            self._asked_at = now
            try:
                answer = http.exchange("GET", self._url, headers={}, total_s=_KEYS_WAIT_S)
                keys = _ed25519(answer.json()) if answer.status == 200 else ()
            except ProviderError:
                return
            if keys:
                self._keys, self._fetched_at = keys, now


@cache
def published(url: str) -> PublishedKeys:
    """One per process and address."""
    return PublishedKeys(url)


def _verifies(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _ed25519(jwks: dict[str, Any]) -> tuple[Ed25519PublicKey, ...]:
    listed = jwks.get("keys")
    found = []
    for key in listed if isinstance(listed, list) else []:
        x = key.get("x") if isinstance(key, dict) and key.get("crv") == "Ed25519" else None
        try:
            found.append(Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(f"{x}==")))
        except (ValueError, binascii.Error):
            continue
    return tuple(found)

"""Standard Webhooks 1.0 signatures (https://www.standardwebhooks.com): HMAC-SHA256 over id, time and body.

A team's secret is derived from the deployment's key, so there is none to store, leak or back up. Raising
`Team.webhook_secret_version` gives the team a new one.
"""

import hmac
import uuid
from base64 import b64decode, b64encode
from collections.abc import Iterable
from datetime import datetime

from django.conf import settings

PREFIX = "whsec_"


def secret_for(team_id: uuid.UUID, version: int) -> str:
    """`whsec_` and 32 bytes in base64."""
    message = f"webhooks:{team_id}:{version}".encode()
    return PREFIX + b64encode(_hmac(settings.WEBHOOK_SIGNING_KEY.encode(), message)).decode()


def sign(*, id: str, at: datetime, body: bytes, secrets: Iterable[str]) -> dict[str, str]:  # noqa: A002
    """The three headers. One signature for each secret: during a rotation, the old and the new."""
    timestamp = str(int(at.timestamp()))
    message = b".".join((id.encode(), timestamp.encode(), body))
    keys = (b64decode(secret.removeprefix(PREFIX)) for secret in secrets)
    signatures = " ".join(f"v1,{b64encode(_hmac(key, message)).decode()}" for key in keys)
    return {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures}


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")

"""Standard Webhooks 1.0 (https://www.standardwebhooks.com): how many providers sign."""

import base64
import hmac

from apps.simulator.webhooks import Stamp

# Of the provider before and after its key was rotated, and of somebody else. 24 bytes each.
_NEXT = "bmV4dC1rZXktb2YtdGhlLXByb3ZpZGVy"
_FOREIGN = "c29tZWJvZHktZWxzZS1hbHRvZ2V0aGVy"


def headers(secret: str, webhook_id: str, body: bytes, stamp: Stamp) -> dict[str, str]:
    """Base64 HMAC-SHA256 over `id.timestamp.body`, one signature for each key in force."""
    signed = f"{webhook_id}.{stamp.at:.0f}.".encode() + body
    digests = [hmac.digest(base64.b64decode(key + "=="), signed, "sha256") for key in secrets(secret, stamp)]
    return {
        "content-type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": f"{stamp.at:.0f}",
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }


def secrets(secret: str, stamp: Stamp) -> list[str]:
    """The keys to sign with, in text: while a key is rotated, the new one and the last."""
    present = secret.removeprefix("whsec_")
    return {"present": [present], "next": [_NEXT, present], "foreign": [_FOREIGN]}[stamp.key]

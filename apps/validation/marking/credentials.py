"""C2PA content credentials: one action, `c2pa.created`, by a trained model, signed over the bytes."""

import io
import json
import threading
from typing import Any, Final

from apps.validation.marking import certificate, xmp

# What the library can write into. WebM and Ogg have no place for it.
MEDIA_TYPES: Final = frozenset(
    {
        "image/png",
        "image/jpeg",
        "image/webp",
        "video/mp4",
        "audio/mp4",
        "audio/wav",
        "audio/mpeg",
        "audio/flac",
    }
)
# Of the box that holds all manifests, in the clear in every format (C2PA 2.1, 11.1): what lacks it needs no
# reading, which costs half of signing.
_LABEL: Final = b"c2pa"
_MANIFEST: Final = {
    "claim_generator_info": [{"name": "genplatform", "version": "1"}],
    "assertions": [
        {
            "label": "c2pa.actions.v2",
            "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": xmp.SOURCE_TYPE}]},
        }
    ],
}
# A preview inside would cost 300 ms and up to 2 MB. Nothing is fetched, and who is trusted is the reader's business.
# The library would verify what it just signed, which takes longer than signing it: `mark` does, by reading it.
_SETTINGS: Final = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
        "verify_trust": False,
        "verify_after_sign": False,
    },
}
_local = threading.local()


class NotMarked(Exception):
    """The mark could not be written."""


def sign(content: bytes, media_type: str) -> bytes:
    """The file with credentials. Raises NotMarked."""
    import c2pa

    signed = io.BytesIO()
    try:
        with c2pa.Builder(_MANIFEST, _context()) as builder:
            builder.sign(_signer(), media_type, io.BytesIO(content), signed)
    except (c2pa.C2paError, OSError) as error:
        raise NotMarked(f"{type(error).__name__}: {error}"[:200]) from error
    return signed.getvalue()


def state(content: bytes, media_type: str) -> str:
    """`valid`: signed, unchanged, and made by a model as it says; else why not."""
    if _LABEL not in content:
        return "without credentials"
    import c2pa

    try:
        with c2pa.Reader(media_type, io.BytesIO(content), context=_context()) as reader:
            found = json.loads(reader.json())
            validity = reader.get_validation_state() or "unknown"
    except c2pa.C2paError as error:
        return f"unreadable: {type(error).__name__}"
    if validity.lower() not in ("valid", "trusted"):
        return validity.lower()
    actions = _actions(found)
    made = any(
        action["action"] == "c2pa.created" and action.get("digitalSourceType") == xmp.SOURCE_TYPE
        for action in actions
    )
    return "valid" if made else "not said to be made by a model"


def _actions(store: dict[str, Any]) -> list[dict[str, Any]]:
    active = store["manifests"][store["active_manifest"]]
    return [
        action
        for assertion in active["assertions"]
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]


def _context() -> Any:
    if not hasattr(_local, "context"):
        import c2pa

        _local.context = c2pa.Context(c2pa.Settings.from_dict(_SETTINGS))
    return _local.context


def _signer() -> Any:
    if not hasattr(_local, "signer"):
        import c2pa

        chain, key = certificate.pair()
        # No time stamp: it would need the network for every file.
        info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, chain, key, None)
        _local.signer = c2pa.Signer.from_info(info)
    return _local.signer

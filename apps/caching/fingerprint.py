"""The exact key of a request: SHA-256 over everything that changes the output, and the seed derived from it."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from typing import Any

# Raised when the meaning of a key changes: results kept under older keys are then never found.
VERSION = 1
MAX_SEED = 2**31 - 1


def normalise(prompt: str, *, case_sensitive: bool) -> str:
    """NFKC, trimmed, whitespace collapsed; lower-cased only where the model ignores case."""
    text = " ".join(unicodedata.normalize("NFKC", prompt).split())
    return text if case_sensitive else text.lower()


def derive_seed(*, model: str, prompt: str) -> int:
    """The seed of a request that names none: the same request is the same picture. 0 ≤ seed < 2³¹ - 1."""
    digest = hashlib.sha256(f"{model}\n{prompt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % MAX_SEED


def of(*, model: str, model_version: str, prompt: str, params: Mapping[str, Any]) -> bytes:
    """32 bytes. `prompt` is normalised, `params` are resolved (defaults filled in, seed included)."""
    body = json.dumps(
        [VERSION, model, model_version, prompt, params],
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return hashlib.sha256(body.encode()).digest()

"""The keys of a request at each tier. Pure: what decides them comes in, 32 bytes come out."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.caching import fingerprint
from apps.caching.canonical import form

# Raised when what is refused as unsafe changes: results of before are then not served any more.
SAFETY_POLICY = 1


@dataclass(frozen=True, slots=True)
class Keys:
    """`exact` is the fingerprint, `canonical` the same for all certain rewordings, `compatibility` for all prompts."""

    exact: bytes
    canonical: bytes
    compatibility: bytes


def of(
    *,
    kind: str,
    model: str,
    model_version: str,
    case_sensitive: bool,
    prompt: str,
    params: Mapping[str, Any],
) -> Keys:
    """`params` are resolved, a seed included. The team is not in the keys: it is a column beside them."""
    exact_prompt = fingerprint.normalise(prompt, case_sensitive=case_sensitive)
    exact = fingerprint.of(model=model, model_version=model_version, prompt=exact_prompt, params=params)
    negative = str(params.get("negative_prompt") or "")
    # The seed and the prompts are what may differ; everything else makes another picture.
    same = {name: value for name, value in params.items() if name not in ("seed", "negative_prompt")}
    compatibility = _digest(
        SAFETY_POLICY,
        form.VERSION,
        fingerprint.VERSION,
        kind,
        model,
        model_version,
        same,
        form.negative(negative, case_sensitive=case_sensitive) if negative else "",
    )
    canonical = _digest(compatibility.hex(), form.of(prompt, kind=kind, case_sensitive=case_sensitive))
    return Keys(exact, canonical, compatibility)


def _digest(*parts: Any) -> bytes:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).digest()

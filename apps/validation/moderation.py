"""Moderation by a service that speaks OpenAI's `POST /v1/moderations`: a model, where the policy lists know only words.

Its answers are brought to one set of categories with scores from 0 to 1. What it can't say now is an error, not a
pass.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import httpx
from django.conf import settings

_MAX_BYTES: Final = 200_000
# OpenAI's categories (platform.openai.com/docs/guides/moderation) → ours; others are left out.
_CATEGORIES: Final = {
    "sexual": "sexual",
    "sexual/minors": "sexual_minors",
    "violence": "violence",
    "violence/graphic": "graphic",
    "hate": "hate",
    "hate/threatening": "hate",
    "harassment": "hate",
    "harassment/threatening": "hate",
    "self-harm": "self_harm",
    "self-harm/intent": "self_harm",
    "self-harm/instructions": "self_harm",
    "illicit": "illicit",
    "illicit/violent": "illicit",
}


class Unavailable(Exception):
    """The service did not give an answer that makes sense. Ask again later."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """`scores`: category → how surely, 0 to 1. `flagged`: the categories that the service itself objects to."""

    scores: Mapping[str, float]
    flagged: frozenset[str]

    def worst(self) -> float:
        return max(self.scores.values(), default=0.0)


def is_configured() -> bool:
    return bool(settings.MODERATION_URL)


def of_text(text: str) -> Opinion:
    """Raises Unavailable."""
    return _ask([{"type": "text", "text": text}])


def of_picture(content: bytes, media_type: str) -> Opinion:
    """Raises Unavailable."""
    url = f"data:{media_type};base64,{b64encode(content).decode()}"
    return _ask([{"type": "image_url", "image_url": {"url": url}}])


def _ask(given: list[dict[str, Any]]) -> Opinion:
    headers = {"content-type": "application/json"}
    if settings.MODERATION_API_KEY:
        headers["authorization"] = f"Bearer {settings.MODERATION_API_KEY}"
    body = json.dumps({"model": settings.MODERATION_MODEL, "input": given}).encode()
    try:
        with _client().stream("POST", settings.MODERATION_URL, headers=headers, content=body) as response:
            answer = _read(response)
        if response.status_code != 200:
            raise Unavailable(f"HTTP {response.status_code}")
        return _opinion(json.loads(answer)["results"])
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(type(error).__name__) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unavailable("an answer that makes no sense") from error


def _opinion(results: list[dict[str, Any]]) -> Opinion:
    if not results:
        raise Unavailable("an answer without a result")
    scores: dict[str, float] = {}
    flagged: set[str] = set()
    for result in results:
        for name, score in result["category_scores"].items():
            if ours := _CATEGORIES.get(name):
                scores[ours] = max(scores.get(ours, 0.0), float(score))
        named = {
            _CATEGORIES.get(name, "other") for name, objected in result["categories"].items() if objected
        }
        flagged |= named or ({"other"} if result["flagged"] else set())
    return Opinion(scores, frozenset(flagged))


def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    for piece in response.iter_raw():
        body += piece
        if len(body) > _MAX_BYTES:
            raise Unavailable("an answer that is too long")
    return bytes(body)


@cache
def _client() -> httpx.Client:
    """The operator's own service, by settings, so it may be inside the network. No redirects, no proxy."""
    return httpx.Client(
        timeout=settings.MODERATION_TIMEOUT_S, trust_env=False, headers={"accept-encoding": "identity"}
    )

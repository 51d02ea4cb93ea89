"""Moderation by a service that speaks OpenAI's `POST /v1/moderations`: a model, where the policy lists know only words.

Its answers are brought to one set of categories with scores from 0 to 1. What it can't say now is an error, not a
pass.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings

from apps.validation import service
from apps.validation.service import Unavailable as Unavailable

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


def worst_of(opinions: Iterable[Opinion]) -> Opinion:
    """Of several pictures that are one work. Raises as they do."""
    scores: dict[str, float] = {}
    flagged: frozenset[str] = frozenset()
    for opinion in opinions:
        scores |= {name: max(score, scores.get(name, 0.0)) for name, score in opinion.scores.items()}
        flagged |= opinion.flagged
    return Opinion(scores, flagged)


def _ask(given: list[dict[str, Any]]) -> Opinion:
    answer = service.ask(
        settings.MODERATION_URL,
        {"model": settings.MODERATION_MODEL, "input": given},
        api_key=settings.MODERATION_API_KEY,
        timeout_s=settings.MODERATION_TIMEOUT_S,
    )
    try:
        return _opinion(answer["results"])
    except (LookupError, ValueError, TypeError, AttributeError) as error:
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

"""What turns prompts into vectors: the model in this process, an endpoint, or nothing.

Only workers embed, at the first step of a run; whoever asks treats every failure as a miss.
"""

import json
import math
from collections.abc import Sequence
from functools import cache
from typing import Protocol

import httpx
from django.conf import settings

Vector = Sequence[float]

DIM = 384


class EmbedderUnavailable(Exception):
    """It is not installed, not reachable or answered nonsense. A miss, never a failed job."""


class Embedder(Protocol):
    """Vectors of different `id`s are never compared: it names the model, its weights and how it is called."""

    id: str
    dim: int

    def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """One vector of norm 1 for each text."""


class Endpoint:
    """An OpenAI-style `POST /embeddings` (https://platform.openai.com/docs/api-reference/embeddings)."""

    dim = DIM

    def __init__(self, url: str, *, key: str, model: str) -> None:
        self.id = f"{model}@{url}@1"[:100]
        self._url, self._model = f"{url.rstrip('/')}/embeddings", model
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(headers=headers, timeout=settings.EMBEDDINGS_TIMEOUT_S)

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        body = {"model": self._model, "input": list(texts), "dimensions": DIM}
        try:
            answer = self._client.post(self._url, json=body)
            answer.raise_for_status()
            data = sorted(answer.json()["data"], key=lambda item: item["index"])
            vectors = [_normed(item["embedding"]) for item in data]
        except (httpx.HTTPError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise EmbedderUnavailable(f"{type(error).__name__}") from error
        if len(vectors) != len(texts):
            raise EmbedderUnavailable("not one vector for each text")
        return vectors


def _normed(values: Sequence[float]) -> tuple[float, ...]:
    length = math.sqrt(sum(value * value for value in values))
    if len(values) != DIM or not math.isfinite(length) or length == 0:
        raise ValueError("not a vector of 384 numbers")
    return tuple(value / length for value in values)


def configured() -> Embedder | None:
    """By settings; None: tier 3 is off. Raises EmbedderUnavailable if what is configured is not installed."""
    return named(settings.EMBEDDER)


def named(name: str) -> Embedder | None:
    """`minilm`, `endpoint` (at EMBEDDINGS_URL), anything else: none. One of each in a process."""
    return _named(name, settings.EMBEDDINGS_URL, settings.EMBEDDINGS_MODEL)


@cache
def _named(name: str, url: str, model: str) -> Embedder | None:
    if name == "endpoint":
        return Endpoint(url, key=settings.EMBEDDINGS_API_KEY, model=model)
    if name == "minilm":
        try:
            from apps.caching.semantic import minilm
        except ImportError as error:
            raise EmbedderUnavailable("requirements/semantic.txt is not installed") from error
        return minilm.shared()
    return None

"""OpenAI: images and speech.

Both calls are answered with the result itself, and the protocol has neither an idempotency key nor a lookup: an
answer that was lost stays unknown. Pictures are also made in batches (openai_batches), where it is found again.
By HTTP and not by the `openai` package, which would only add a client of its own: it sends a POST up to three times
unless told otherwise, does not bound an answer, and costs 46 MB.

A picture's price goes by its quality: a route names both as `gpt-image-1.5@medium`; without it the provider chooses.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Final

from apps.providers import answers, fitting, http
from apps.providers.adapters import openai_batches
from apps.providers.adapters.at_once import AnswersAtOnce
from apps.providers.contract import (
    BatchPending,
    BatchResults,
    Capabilities,
    Fitted,
    GenerationRequest,
    Output,
    Pending,
    Result,
    Ticket,
)
from apps.providers.errors import ErrorKind, ProviderError

_KINDS: Final = {
    "insufficient_quota": ErrorKind.INSUFFICIENT_FUNDS,
    "billing_hard_limit_reached": ErrorKind.INSUFFICIENT_FUNDS,
    "moderation_blocked": ErrorKind.CONTENT_REJECTED,
    "content_policy_violation": ErrorKind.CONTENT_REJECTED,
}
_MAX_IMAGES = 10
_SIZES: Final = frozenset({(1024, 1024), (1536, 1024), (1024, 1536)})
# From gpt-image-2 on, any size on this grid (image_generate_params of openai 3.54).
_FREE_SIZES = "gpt-image-2"
_GRID, _MAX_SIDE, _MAX_PIXELS, _MAX_RATIO = 16, 3840, 3840 * 2160, 3
_MAX_CHARACTERS = 4096
_VOICES: Final = frozenset(
    "alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split()  # noqa: SIM905 - a table
)
# The catalog's voices, in the nearest of OpenAI's.
_STAND_INS: Final = {"aria": "nova", "liam": "onyx", "sora": "coral", "noor": "shimmer"}
_DEFAULT_VOICE = "alloy"


@dataclass(frozen=True)
class OpenAI(AnswersAtOnce):
    """`base_url` ends in `/v1`, as for the provider's own client."""

    base_url: str
    api_key: str = field(repr=False)

    capabilities: ClassVar = Capabilities(
        kinds=frozenset({"image", "audio"}), synchronous=True, batches=frozenset({"image"})
    )

    def fit(self, request: GenerationRequest) -> Fitted:
        if request.kind == "image":
            return _fit_image(request)
        if request.kind == "audio":
            return _fit_speech(request)
        raise fitting.unsupported(f"it makes no {request.kind}")

    def ping(self) -> None:
        answer = http.exchange("GET", f"{self.base_url}/models", headers=self._headers())
        if answer.status != 200:
            raise _refusal(answer)

    def submit(self, request: GenerationRequest) -> Pending | Result:
        if request.kind == "image":
            answer = self._generate("images/generations", request, _image(request))
            return Result(
                None, openai_batches.pictures(answer.json()), inference_ms=_inference_ms(answer.headers)
            )
        answer = self._generate("audio/speech", request, _speech(request))
        return Result(None, (Output(data=answers.file(answer)),), inference_ms=_inference_ms(answer.headers))

    def submit_batch(self, requests: Sequence[GenerationRequest], key: str) -> Ticket:
        return self._desk().order(requests, key, _image)

    def find_batch(self, key: str) -> Ticket | None:
        return self._desk().find(key)

    def poll_batch(self, ticket: Ticket) -> BatchPending | BatchResults:
        return self._desk().poll(ticket)

    def cancel_batch(self, ticket: Ticket) -> bool:
        return self._desk().cancel(ticket)

    def poll(self, ticket: Ticket) -> Pending | Result:
        """Of one order in a batch: no other has a ticket."""
        batch = ticket.details.get("batch")
        if not batch:
            return super().poll(ticket)
        result = self._desk().result_of(ticket.task_id, Ticket(batch))
        return result or Pending(ticket, "generating")

    def _desk(self) -> openai_batches.Desk:
        return openai_batches.Desk(self.base_url, self._headers(), _refusal)

    def _generate(self, path: str, request: GenerationRequest, body: dict[str, Any]) -> http.Answer:
        headers = {
            **self._headers(),
            "content-type": "application/json",
            # Nothing is promised for it, but it names the attempt in the provider's logs.
            "idempotency-key": request.attempt_id,
        }
        answer = http.result(f"{self.base_url}/{path}", headers=headers, content=json.dumps(body).encode())
        if answer.status != 200:
            raise _refusal(answer)
        return answer

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key}"}


def _fit_image(request: GenerationRequest) -> Fitted:
    """Pictures have neither a seed nor a negative prompt here."""
    fitting.count(request, _MAX_IMAGES)
    size = fitting.size(request)
    if size and not _offers(request.model, *size):
        raise fitting.unsupported(f"{size[0]}x{size[1]} is no size of {request.model}")
    return fitting.only(request, "width", "height", "n")


def _offers(model: str, width: int, height: int) -> bool:
    if (width, height) in _SIZES:
        return True
    on_grid = width % _GRID == 0 and height % _GRID == 0
    fits = max(width, height) <= _MAX_SIDE and width * height <= _MAX_PIXELS
    ratio = Fraction(max(width, height), min(width, height))
    return model.startswith(_FREE_SIZES) and on_grid and fits and ratio <= _MAX_RATIO


def _fit_speech(request: GenerationRequest) -> Fitted:
    fitting.count(request, 1)
    if request.params.get("duration_s"):
        raise fitting.unsupported("speech lasts as long as its text")
    if len(request.prompt) > _MAX_CHARACTERS:
        raise fitting.unsupported(f"at most {_MAX_CHARACTERS} characters")
    return fitting.only(request, "voice", says=fitting.voice(request, _VOICES, _STAND_INS))


def _image(request: GenerationRequest) -> dict[str, Any]:
    model, _, quality = request.model.partition("@")
    body: dict[str, Any] = {"model": model, "prompt": request.prompt, "n": request.params.get("n", 1)}
    if size := fitting.size(request):
        body["size"] = f"{size[0]}x{size[1]}"
    if quality:
        body["quality"] = quality
    return body


def _speech(request: GenerationRequest) -> dict[str, Any]:
    voice = request.params.get("voice", _DEFAULT_VOICE)
    # Not wav: a streamed one does not know its own length and announces hours.
    return {"model": request.model, "input": request.prompt, "voice": voice, "response_format": "mp3"}


def _refusal(answer: http.Answer) -> ProviderError:
    """From `{"error": {"message", "type", "param", "code"}}`."""
    error = _error(answer)
    kind = _KINDS.get(str(error.get("code"))) or _KINDS.get(str(error.get("type")))
    return answers.refusal(answer.status, str(error.get("message", "")), headers=answer.headers, kind=kind)


def _error(answer: http.Answer) -> dict[str, Any]:
    try:
        error = answer.json().get("error")
    except ProviderError:
        return {"message": "no JSON"}
    return error if isinstance(error, dict) else {"message": str(error)}


def _inference_ms(headers: Mapping[str, str]) -> int | None:
    value = headers.get("openai-processing-ms", "")
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 9 else None

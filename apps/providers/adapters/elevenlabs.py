"""ElevenLabs: speech and sounds.

Answered with the sound itself: no idempotency key and no lookup, so an answer that was lost stays unknown. A voice is
known by its id alone; the names are those of the premade voices that every account has. An empty account is told by
the code in the body, under 400, 401 or 403 alike.
"""

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final
from urllib.parse import quote

from apps.providers import answers, fitting, http
from apps.providers.adapters.at_once import AnswersAtOnce
from apps.providers.contract import (
    Capabilities,
    Fitted,
    GenerationRequest,
    Output,
    Pending,
    Result,
)
from apps.providers.errors import ErrorKind, ProviderError

_KINDS: Final = {
    "quota_exceeded": ErrorKind.INSUFFICIENT_FUNDS,
    "payment_required": ErrorKind.INSUFFICIENT_FUNDS,
    # We ask for too much at once: the limiter's business.
    "too_many_concurrent_requests": ErrorKind.RATE_LIMITED,
    # They have too much to do: the breaker's.
    "system_busy": ErrorKind.SERVER_ERROR,
    "content_against_policy": ErrorKind.CONTENT_REJECTED,
    "voice_not_found": ErrorKind.INVALID_REQUEST,
    "max_character_limit_exceeded": ErrorKind.INVALID_REQUEST,
}
_VOICES: Final = {
    "alice": "Xb7hH8MSUJpSbSDYk0k2",
    "aria": "9BWtsMINqrJLrRacOk9x",
    "brian": "nPczCjzI2devNBz1zQrb",
    "charlie": "IKne3meq5aSn9XLyUdCD",
    "charlotte": "XB0fDUnXU5powFXDhCwa",
    "daniel": "onwK4e9ZLuTAKqWW03F9",
    "george": "JBFqnCBsd6RMkjVDRZzb",
    "jessica": "cgSgspJ2msm6clMCkdW9",
    "laura": "FGY2WhTYpPnrIDTdsKH5",
    "liam": "TX3LPaxmHKxFdv7VOQHJ",
    "lily": "pFZP5JQG7iQjIQuC4Bku",
    "matilda": "XrExE9yKIg1WjnnlVkGX",
    "river": "SAz9YHcvj6GT2YYXdXww",
    "roger": "CwhRBWXzGAHq8TQ4Fs17",
    "sarah": "EXAVITQu4vr4xnSDxMaL",
    "will": "bIHbv24MWmeRgasZH58o",
}
# The catalog's voices that it has not by that name, in the nearest of its own.
_STAND_INS: Final = {"sora": "jessica", "noor": "sarah"}
_DEFAULT_VOICE = "aria"
_MAX_CHARACTERS = 40_000
_SOUND_S: Final = (0.5, 30.0)
_FORMAT = "mp3_44100_128"


@dataclass(frozen=True)
class ElevenLabs(AnswersAtOnce):
    """A model whose name speaks of sound (`eleven_text_to_sound_v2`) makes noises, any other reads the text out."""

    base_url: str
    api_key: str = field(repr=False)

    capabilities: ClassVar = Capabilities(kinds=frozenset({"audio"}), synchronous=True)

    def fit(self, request: GenerationRequest) -> Fitted:
        if request.kind != "audio":
            raise fitting.unsupported(f"it makes no {request.kind}")
        fitting.count(request, 1)
        if len(request.prompt) > _MAX_CHARACTERS:
            raise fitting.unsupported(f"at most {_MAX_CHARACTERS} characters")
        return _fit_sound(request) if _is_sound(request) else _fit_speech(request)

    def ping(self) -> None:
        answer = http.exchange("GET", f"{self.base_url}/v1/user", headers=self._headers())
        if answer.status != 200:
            raise _refusal(answer)

    def submit(self, request: GenerationRequest) -> Pending | Result:
        path, body = _sound(request) if _is_sound(request) else _speech(request)
        headers = {
            **self._headers(),
            "accept": "audio/mpeg",
            "content-type": "application/json",
            # Not known to the provider, but it names the attempt in its logs.
            "idempotency-key": request.attempt_id,
        }
        answer = http.result(
            f"{self.base_url}/v1/{path}?output_format={_FORMAT}",
            headers=headers,
            content=json.dumps(body).encode(),
        )
        if answer.status != 200:
            raise _refusal(answer)
        # It tells what it costs in characters of a subscription, not in money.
        return Result(None, (Output(data=answers.file(answer)),))

    def _headers(self) -> dict[str, str]:
        return {"xi-api-key": self.api_key}


def _is_sound(request: GenerationRequest) -> bool:
    return "sound" in request.model


def _fit_speech(request: GenerationRequest) -> Fitted:
    if request.params.get("duration_s"):
        raise fitting.unsupported("speech lasts as long as its text")
    return fitting.only(request, "voice", "seed", says=fitting.voice(request, _VOICES, _STAND_INS))


def _fit_sound(request: GenerationRequest) -> Fitted:
    duration_s = request.params.get("duration_s")
    if duration_s is not None and not _SOUND_S[0] <= duration_s <= _SOUND_S[1]:
        raise fitting.unsupported(f"sounds last {_SOUND_S[0]} to {_SOUND_S[1]} s")
    return fitting.only(request, "duration_s")


def _speech(request: GenerationRequest) -> tuple[str, dict[str, Any]]:
    voice = _VOICES[request.params.get("voice", _DEFAULT_VOICE)]
    body: dict[str, Any] = {"text": request.prompt, "model_id": request.model}
    if (seed := request.params.get("seed")) is not None:
        body["seed"] = seed
    return f"text-to-speech/{quote(voice, safe='')}", body


def _sound(request: GenerationRequest) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {"text": request.prompt, "model_id": request.model}
    if (duration_s := request.params.get("duration_s")) is not None:
        body["duration_seconds"] = float(duration_s)
    return "sound-generation", body


def _refusal(answer: http.Answer) -> ProviderError:
    """From `{"detail": {"status" or "code", "message"}}`; of a body that does not fit, a list of what is wrong."""
    detail = _detail(answer)
    found = (_KINDS.get(str(detail.get(name))) for name in ("code", "status"))
    message = f"{detail.get('status') or detail.get('code') or ''}: {detail.get('message', '')}"
    return answers.refusal(
        answer.status, message, headers=answer.headers, kind=next(filter(None, found), None)
    )


def _detail(answer: http.Answer) -> dict[str, Any]:
    try:
        detail = answer.json().get("detail")
    except ProviderError:
        return {"message": "no JSON"}
    return detail if isinstance(detail, dict) else {"message": str(detail)}

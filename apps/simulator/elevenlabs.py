"""The ElevenLabs wire protocol under `/elevenlabs`: speech and sounds.

The key comes in `xi-api-key`. Errors are `{"detail": {"status", "message"}}`; an account without characters left is
401 `quota_exceeded`. 429 is `too_many_concurrent_requests` (this client's) or `system_busy` (everybody's).
"""

from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from apps.simulator.door import Refusal, json_object, number, text
from apps.simulator.engine import Task
from apps.simulator.orders import Order
from apps.simulator.provider import Provider
from apps.simulator.synchronous import SynchronousDoor, spoken_s

_SPEECH_MODELS = (
    *("eleven_multilingual_v2", "eleven_flash_v2_5", "eleven_flash_v2", "eleven_turbo_v2_5", "eleven_v3"),
)
_SOUND_MODELS = ("eleven_text_to_sound_v2",)
_VOICE_ID_CHARACTERS = 20
_MAX_CHARACTERS = 40_000
_STATUSES = {
    400: "invalid_request",
    401: "invalid_api_key",
    402: "payment_required",
    404: "not_found",
    429: "system_busy",
    500: "internal_server_error",
    503: "system_busy",
}
# Where the status is the code's.
_REASONS = {
    "quota": (401, "quota_exceeded"),
    "concurrency": (429, "too_many_concurrent_requests"),
    "moderation": (400, "content_against_policy"),
}


class _Refusal(Refusal):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, message)
        self.code = code


def routes(provider: Provider) -> list[Route]:
    speech, sounds = _Speech(provider), _Sounds(provider)
    return [
        Route("/elevenlabs/v1/text-to-speech/{voice_id}", speech.place, methods=["POST"]),
        Route("/elevenlabs/v1/sound-generation", sounds.place, methods=["POST"]),
        Route("/elevenlabs/v1/user", speech.user, methods=["GET"]),
    ]


class _Door(SynchronousDoor):
    protocol = "elevenlabs"
    # The endpoint is a part of the model's name, by which the simulator knows what to make of it.
    service: str
    models: tuple[str, ...]

    async def place(self, request: Request) -> Response:
        try:
            model = text(json_object(await request.body()), "model_id")
        except Refusal as refusal:
            return self.render(refusal)
        return await self.submit(request, f"{self.service}/{model}")

    def key(self, request: Request) -> str:
        return request.headers.get("xi-api-key", "").strip()

    def render(self, refusal: Refusal) -> Response:
        usual = refusal.status, _STATUSES.get(refusal.status, "error")
        status, code = _REASONS.get(refusal.reason, usual)
        detail = {"status": getattr(refusal, "code", code), "message": refusal.message}
        return JSONResponse({"detail": detail}, status_code=status, headers=refusal.headers)

    def filtered(self, request: Request) -> Refusal:
        return _Refusal(400, "content_against_policy", "The text may violate our terms of use.")

    async def user(self, request: Request) -> Response:
        try:
            self.authenticate(request)
        except Refusal as refusal:
            return self.render(refusal)
        left = {"tier": "creator", "character_count": 0, "character_limit": 1_000_000}
        return JSONResponse({"user_id": "simulated", "subscription": left})

    def deliver(self, request: Request, task: Task, raw: bytes, files: list[bytes]) -> Response:
        sound = files[0] if files else b""
        headers = {"character-cost": str(len(task.order.prompt)), "request-id": task.id}
        return Response(sound, media_type="audio/mpeg", headers=headers)

    def order(
        self, request: Request, model: str, body: dict[str, Any], *, duration_s: float, seed: int
    ) -> Order:
        """Raises Refusal."""
        said = text(body, "text")
        if body["model_id"] not in self.models:
            raise _Refusal(400, "model_not_found", f"A model with ID {body['model_id']} does not exist.")
        if len(said) > _MAX_CHARACTERS:
            raise _Refusal(400, "max_character_limit_exceeded", f"The text has {len(said)} characters.")
        if not request.query_params.get("output_format", "mp3_44100_128").startswith("mp3_"):
            raise _Refusal(400, "invalid_output_format", "This stand-in speaks mp3 only.")
        sound: Literal["mp3"] = "mp3"
        return Order(model, said, seed, width=0, height=0, count=1, duration_s=duration_s, sound=sound)


class _Speech(_Door):
    service = "text-to-speech"
    models = _SPEECH_MODELS

    def read(self, request: Request, model: str, raw: bytes) -> Order:
        body = json_object(raw)
        voice_id = request.path_params["voice_id"]
        if len(voice_id) != _VOICE_ID_CHARACTERS or not voice_id.isalnum():
            raise _Refusal(404, "voice_not_found", f"A voice with voice_id {voice_id} was not found.")
        seed = int(number(body, "seed", self.provider.rng.randrange(2**31), low=0, high=2**32 - 1))
        duration_s = spoken_s(text(body, "text"))
        return self.order(request, model, body, duration_s=duration_s, seed=seed)


class _Sounds(_Door):
    service = "sound-generation"
    models = _SOUND_MODELS

    def read(self, request: Request, model: str, raw: bytes) -> Order:
        body = json_object(raw)
        duration_s = number(body, "duration_seconds", 4, low=0.5, high=30)
        seed = self.provider.rng.randrange(2**31)
        return self.order(request, model, body, duration_s=duration_s, seed=seed)

"""The OpenAI wire protocol under `/openai/v1`: images, speech, models.

Errors are `{"error": {"message", "type", "param", "code"}}`. A picture comes as base64, speech as bytes, both when
they are done. Sizes and parameters as in the types of openai 3.54; what the API does not know it refuses.
"""

import base64
import time
import uuid
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from apps.simulator import connection
from apps.simulator.door import Refusal, json_object, number, text
from apps.simulator.engine import Task
from apps.simulator.orders import Order
from apps.simulator.provider import Provider
from apps.simulator.synchronous import SynchronousDoor, spoken_s

_IMAGE_MODELS = (
    *("gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2", "gpt-image-2.5-sunburst", "gpt-image-2.5-flare"),
    *("gpt-image-2.6-sunburst", "gpt-image-2.6-flare", "chatgpt-image-latest"),
)
_SPEECH_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15")
_IMAGE_FIELDS = {
    *("prompt", "model", "n", "size", "quality", "background", "moderation", "output_format"),
    *("output_compression", "user", "safety_identifier"),
}
_SPEECH_FIELDS = {"model", "input", "voice", "response_format", "speed", "instructions"}
_STANDARD_SIZES = {"1024x1024", "1536x1024", "1024x1536"}
_VOICES = {
    *("alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer", "verse"),
    *("marin", "cedar"),
}
_SOUNDS = {"mp3": "audio/mpeg", "wav": "audio/wav"}
_TYPES = {429: "requests", 500: "server_error", 503: "server_error"}
_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}
_REASONS = {"quota": "insufficient_quota", "moderation": "moderation_blocked"}
_CREATED = 1_700_000_000


class _Refusal(Refusal):
    """With what the API says beside the message."""

    def __init__(self, status: int, message: str, *, code: str | None, param: str | None = None) -> None:
        super().__init__(status, message)
        self.code, self.param = code, param


def routes(provider: Provider) -> list[Route]:
    pictures, speech = Pictures(provider), _Speech(provider)
    return [
        Route("/openai/v1/images/generations", pictures.place, methods=["POST"]),
        Route("/openai/v1/audio/speech", speech.place, methods=["POST"]),
        Route("/openai/v1/models", pictures.models, methods=["GET"]),
        Route("/openai/v1/models/{model}", pictures.model, methods=["GET"]),
    ]


class _Door(SynchronousDoor):
    protocol = "openai"

    async def place(self, request: Request) -> Response:
        raw = await request.body()
        try:
            model = text(json_object(raw), "model")
        except Refusal as refusal:
            return self.render(refusal)
        response = await self.submit(request, model)
        response.headers["x-request-id"] = f"req_{uuid.uuid4().hex}"
        return response

    def render(self, refusal: Refusal) -> Response:
        status, code = refusal.status, _REASONS.get(refusal.reason, _CODES.get(refusal.status))
        quota = refusal.reason == "quota"
        error = {
            "message": refusal.message,
            "type": code if quota else _TYPES.get(status, "invalid_request_error"),
            "param": getattr(refusal, "param", None),
            "code": getattr(refusal, "code", code),
        }
        # Waiting does not fill an account.
        headers = {**refusal.headers, **({"x-should-retry": "false"} if quota else {})}
        return JSONResponse({"error": error}, status_code=status, headers=headers)

    async def models(self, request: Request) -> Response:
        try:
            self.authenticate(request)
        except Refusal as refusal:
            return self.render(refusal)
        known = [_described(model) for model in (*_IMAGE_MODELS, *_SPEECH_MODELS)]
        return JSONResponse({"object": "list", "data": known})

    async def model(self, request: Request) -> Response:
        try:
            self.authenticate(request)
            _known(request.path_params["model"], (*_IMAGE_MODELS, *_SPEECH_MODELS))
        except Refusal as refusal:
            return self.render(refusal)
        return JSONResponse(_described(request.path_params["model"]))


class Pictures(_Door):
    def read(self, request: Request, model: str, raw: bytes) -> Order:
        body = json_object(raw)
        _known(model, _IMAGE_MODELS)
        _only(body, _IMAGE_FIELDS)
        if body.get("output_format", "png") != "png":
            raise _Refusal(400, "This stand-in draws PNG only.", code="invalid_value", param="output_format")
        width, height = _size(model, body.get("size") or "auto")
        return Order(
            model=model,
            prompt=text(body, "prompt"),
            seed=self.provider.rng.randrange(2**31),
            width=width,
            height=height,
            count=int(number(body, "n", 1, low=1, high=10)),
            duration_s=0,
        )

    async def placed(self, request: Request, accept: Callable[[], Response]) -> Response:
        """The answer to an order for a batch, or what the faults of the model `batch` make of it."""
        try:
            struck = self.provider.faults.strike(prompt="", model="batch")
            if not await self._let_through(request, struck):
                return Response()
        except Refusal as refusal:
            return self._refused(refusal)
        answer = accept()
        if "accept-reset" in struck:
            await connection.reset(request)
        if "accept-hang" in struck:
            await connection.still_waits(request, struck["accept-hang"] or self.provider.knobs.hang_s)
        return answer

    def filtered(self, request: Request) -> Refusal:
        message = "Your request was rejected by the safety system. safety_violations=[sexual]."
        return _Refusal(400, message, code="moderation_blocked")

    def deliver(self, request: Request, task: Task, raw: bytes, files: list[bytes]) -> Response:
        order = task.order
        read, drawn = len(order.prompt) // 4 + 1, order.count * order.width * order.height // 1000
        body = {
            "created": int(time.time()),
            "background": "opaque",
            "output_format": "png",
            "quality": json_object(raw).get("quality", "auto"),
            "size": f"{order.width}x{order.height}",
            "data": [{"b64_json": base64.b64encode(picture).decode()} for picture in files],
            "usage": {
                "input_tokens": read,
                "input_tokens_details": {"image_tokens": 0, "text_tokens": read},
                "output_tokens": drawn,
                "total_tokens": read + drawn,
            },
        }
        return JSONResponse(body, headers=_timed(task))


class _Speech(_Door):
    def read(self, request: Request, model: str, raw: bytes) -> Order:
        body = json_object(raw)
        _known(model, _SPEECH_MODELS)
        _only(body, _SPEECH_FIELDS)
        said = text(body, "input")
        if len(said) > 4096:
            raise _Refusal(400, "The text is longer than 4096 characters.", code="string_above_max_length")
        if body.get("voice") not in _VOICES:
            raise _Refusal(400, f"voice: one of {', '.join(sorted(_VOICES))}", code=None, param="voice")
        sound = body.get("response_format", "mp3")
        if sound not in _SOUNDS:
            raise _Refusal(400, "This stand-in speaks mp3 and wav only.", code=None, param="response_format")
        return Order(
            model=model,
            prompt=said,
            seed=0,
            width=0,
            height=0,
            count=1,
            duration_s=spoken_s(said),
            sound=sound,
        )

    def filtered(self, request: Request) -> Refusal:
        return _Refusal(
            400, "Your request was rejected by the safety system.", code="content_policy_violation"
        )

    def deliver(self, request: Request, task: Task, raw: bytes, files: list[bytes]) -> Response:
        sound = files[0] if files else b""
        return Response(sound, media_type=_SOUNDS[task.order.sound], headers=_timed(task))


def _described(model: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": _CREATED, "owned_by": "system"}


def _known(model: str, models: tuple[str, ...]) -> None:
    if model not in models:
        message = f"The model '{model}' does not exist or you do not have access to it."
        raise _Refusal(404, message, code="model_not_found", param="model")


def _only(body: dict[str, Any], fields: set[str]) -> None:
    for name in body:
        if name not in fields:
            raise _Refusal(400, f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)


def _size(model: str, size: object) -> tuple[int, int]:
    """From "auto" or "WxH": one of three, and from gpt-image-2 on any on a grid of 16 up to 3840x2160."""
    if size == "auto":
        return 1024, 1024
    width, _, height = str(size).partition("x")
    if not (width.isdecimal() and height.isdecimal() and len(width) < 6 and len(height) < 6):
        raise _Refusal(400, f"Invalid size '{size}'.", code="invalid_value", param="size")
    sides = sorted((int(width), int(height)))
    standard = not model.startswith("gpt-image-2")
    on_grid = all(side and side % 16 == 0 for side in sides) and sides[1] <= 3 * sides[0]
    if size not in _STANDARD_SIZES and (standard or not on_grid or sides[1] > 3840 or sides[0] > 2160):
        raise _Refusal(400, f"Invalid size '{size}' for {model}.", code="invalid_value", param="size")
    return int(width), int(height)


def _timed(task: Task) -> dict[str, str]:
    return {"openai-processing-ms": str(round(task.generation_s * 1000))}

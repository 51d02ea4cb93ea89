"""The Stability AI wire protocol (v2beta) under `/stability`: one picture for a multipart form.

The answer is the picture with its `seed` and `finish-reason` in headers, or JSON, by the `Accept` header. Errors are
`{"id", "name", "errors": [...]}`. A picture that moderation stopped is HTTP 200, and costs nothing.
"""

import base64
import uuid
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from apps.simulator import forms
from apps.simulator.door import Refusal
from apps.simulator.drawing import images
from apps.simulator.engine import Task
from apps.simulator.orders import Order
from apps.simulator.provider import Provider
from apps.simulator.synchronous import SynchronousDoor

# About a megapixel each.
_SIZES = {
    "16:9": (1344, 768),
    "1:1": (1024, 1024),
    "21:9": (1536, 640),
    "2:3": (832, 1216),
    "3:2": (1216, 832),
    "4:5": (896, 1088),
    "5:4": (1088, 896),
    "9:16": (768, 1344),
    "9:21": (640, 1536),
}
_SD3 = ("sd3.5-large", "sd3.5-large-turbo", "sd3.5-medium", "sd3.5-flash")
_MAX_SEED = 4_294_967_294
_NAMES = {
    400: "bad_request",
    401: "unauthorized",
    402: "payment_required",
    403: "content_moderation",
    404: "not_found",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "unprocessable_entity",
    429: "rate_limit_exceeded",
    500: "internal_error",
}
# What it says by status alone.
_STATUSES = {"quota": 402, "moderation": 403}
_FILTERED = "CONTENT_FILTERED"


def routes(provider: Provider) -> list[Route]:
    door = _Door(provider)
    return [
        Route("/stability/v2beta/stable-image/generate/{service}", door.place, methods=["POST"]),
        Route("/stability/v1/user/balance", door.balance, methods=["GET"]),
    ]


class _Filtered(Refusal):
    """Not an error to this provider: a picture of nothing, of the type that was asked for."""

    def __init__(self, accepted: str) -> None:
        super().__init__(200, _FILTERED)
        self.accepted = accepted


class _Door(SynchronousDoor):
    protocol = "stability"

    async def place(self, request: Request) -> Response:
        return await self.submit(request, request.path_params["service"])

    async def balance(self, request: Request) -> Response:
        try:
            self.authenticate(request)
        except Refusal as refusal:
            return self.render(refusal)
        return JSONResponse({"credits": 1000.0})

    def render(self, refusal: Refusal) -> Response:
        if isinstance(refusal, _Filtered):
            nothing = Order("stable-image", "", seed=0, width=64, height=64, count=1, duration_s=0)
            return _picture(refusal.accepted, images.plain_png(nothing, "black"), "0", _FILTERED)
        status = _STATUSES.get(refusal.reason, refusal.status)
        name = _NAMES.get(status, "error")
        body = {"id": uuid.uuid4().hex, "name": name, "errors": [refusal.message]}
        return JSONResponse(body, status_code=status, headers=refusal.headers)

    def read(self, request: Request, model: str, raw: bytes) -> Order:
        service = request.path_params["service"]
        if service not in ("core", "ultra", "sd3"):
            raise Refusal(404, "no such service")
        _accepted_type(request)
        form = forms.fields(request.headers.get("content-type", ""), raw)
        if service == "sd3" and _field(form, "model", _SD3[0]) not in _SD3:
            raise Refusal(400, f"model: must be one of {', '.join(_SD3)}")
        if _field(form, "output_format", "png") != "png":
            raise Refusal(400, "output_format: this stand-in draws png only")
        ratio = _field(form, "aspect_ratio", "1:1")
        if ratio not in _SIZES:
            raise Refusal(400, f"aspect_ratio: must be one of {', '.join(_SIZES)}")
        prompt = _field(form, "prompt", "")
        if not 1 <= len(prompt.strip()) <= 10_000:
            raise Refusal(400, "prompt: must be 1 to 10000 characters")
        width, height = _SIZES[ratio]
        return Order(model, prompt, self._seed(form), width, height, count=1, duration_s=0)

    def _seed(self, form: Mapping[str, bytes]) -> int:
        seed = _field(form, "seed", "0")
        if not seed.isdecimal() or int(seed) > _MAX_SEED:
            raise Refusal(400, f"seed: must be 0 to {_MAX_SEED}")
        return int(seed) or self.provider.rng.randrange(1, _MAX_SEED)

    def filtered(self, request: Request) -> Refusal:
        return _Filtered(_accepted_type(request))

    def deliver(self, request: Request, task: Task, raw: bytes, files: list[bytes]) -> Response:
        picture = files[0] if files else b""
        return _picture(_accepted_type(request), picture, str(task.order.seed), "SUCCESS")


def _picture(accepted: str, picture: bytes, seed: str, reason: str) -> Response:
    if accepted == "application/json":
        image = base64.b64encode(picture).decode()
        return JSONResponse({"image": image, "seed": int(seed), "finish_reason": reason})
    return Response(picture, media_type="image/png", headers={"seed": seed, "finish-reason": reason})


def _accepted_type(request: Request) -> str:
    accepted = request.headers.get("accept", "")
    if accepted not in ("image/*", "application/json"):
        raise Refusal(400, "accept: must be image/* or application/json")
    return accepted


def _field(form: Mapping[str, bytes], name: str, default: str) -> str:
    try:
        return form[name].decode() if name in form else default
    except UnicodeDecodeError as error:
        raise Refusal(400, f"{name}: must be text") from error

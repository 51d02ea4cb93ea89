"""The WaveSpeedAI wire protocol (v3): submit, result, webhook secret, signed webhooks.

Envelope: `{"code": 200, "message": "success", "data": {…prediction…}}`; an error has `code` (the HTTP
status), `message` and no data. The prediction carries no price.
"""

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from apps.simulator import outputs, standard
from apps.simulator.door import Door, Refusal, json_object, number, text, told
from apps.simulator.engine import Phase, Task
from apps.simulator.orders import Order, kind_of
from apps.simulator.provider import Provider
from apps.simulator.webhooks import Stamp

_SYNC_TIMEOUT = 5004
_HEIGHTS = {"360p": (640, 360), "480p": (854, 480), "720p": (1280, 720), "1080p": (1920, 1080)}
_MAX_SIDE = 4096
_WORDS = {"queued": "created", "generating": "processing", "canceled": "cancelled"}


def routes(provider: Provider) -> list[Route]:
    """The protocol's routes, and its webhooks made known to the engine."""
    door = _Door(provider)
    return [
        Route("/api/v3/webhook/secret", door.secret, methods=["GET"]),
        Route("/api/v3/predictions/{task_id}/result", door.result, methods=["GET"]),
        Route("/api/v3/predictions/{task_id}", door.result, methods=["GET"]),
        Route("/api/v3/{model:path}", door.place, methods=["POST"]),
    ]


class _Door(Door):
    protocol = "wavespeed"

    async def place(self, request: Request) -> Response:
        return await self.submit(request, request.path_params["model"])

    def render(self, refusal: Refusal) -> Response:
        return JSONResponse(
            {"code": refusal.status, "message": refusal.message},
            status_code=refusal.status,
            headers=refusal.headers,
        )

    def webhook_url(self, request: Request, raw: bytes) -> str | None:
        return request.query_params.get("webhook")

    def read(self, request: Request, model: str, raw: bytes) -> Order:
        body = json_object(raw)
        seed = number(body, "seed", -1, low=-1, high=2**63 - 1)
        width, height = _size(body, default=(640, 360) if kind_of(model) == "video" else (1024, 1024))
        return Order(
            model=model,
            # Speech models of this provider call it text.
            prompt=text(body, "prompt", "text"),
            seed=int(seed) if seed >= 0 else self.provider.rng.randrange(2**31),
            width=width,
            height=height,
            count=int(number(body, "num_images" if "num_images" in body else "n", 1, low=1, high=16)),
            duration_s=float(number(body, "duration", 5, low=0.1, high=600)),
        )

    async def accepted(self, request: Request, task: Task, raw: bytes) -> Response:
        if json_object(raw).get("enable_sync_mode") is True:
            return await self._when_ended(task)
        return _success(_prediction(task, told(task)))

    async def _when_ended(self, task: Task) -> Response:
        await self.provider.engine.wait(task, self.provider.knobs.sync_timeout_s)
        if task.ended:
            return _success(_prediction(task, told(task)))
        late = {
            "code": _SYNC_TIMEOUT,
            "message": "sync mode timed out",
            "data": _prediction(task, told(task)),
        }
        return JSONResponse(late)

    async def result(self, request: Request) -> Response:
        return await self.show(
            request, request.path_params["task_id"], lambda task, phase: _success(_prediction(task, phase))
        )

    async def secret(self, request: Request) -> Response:
        try:
            self.authenticate(request)
        except Refusal as refusal:
            return self.render(refusal)
        return _success({"secret": self.provider.options.webhook_secret})

    def news(self, task: Task, phase: Phase) -> bytes:
        return json.dumps(_prediction(task, phase)).encode()

    def sign(self, webhook_id: str, body: bytes, stamp: Stamp) -> dict[str, str]:
        """Hex HMAC-SHA256 over `id.timestamp.body`; the secret is used as text, not base64-decoded."""
        signed = f"{webhook_id}.{stamp.at:.0f}.".encode() + body
        secrets = standard.secrets(self.provider.options.webhook_secret, stamp)
        digests = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
        return {
            "content-type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": f"{stamp.at:.0f}",
            "webhook-signature": " ".join(f"v3,{digest}" for digest in digests),
        }


def _success(data: dict[str, Any]) -> Response:
    return JSONResponse({"code": 200, "message": "success", "data": data})


def _prediction(task: Task, phase: Phase | str) -> dict[str, Any]:
    delivered = outputs.urls(task) if phase == "completed" else []
    flagged = bool({"nsfw", "filtered"} & task.faults.keys())
    return {
        "id": task.id,
        "model": task.order.model,
        "status": _WORDS.get(phase, phase),
        "outputs": delivered,
        "urls": {"get": f"{task.base_url}/api/v3/predictions/{task.id}/result"},
        "has_nsfw_contents": [flagged for _ in delivered],
        "created_at": datetime.fromtimestamp(task.created_at, UTC).isoformat().replace("+00:00", "Z"),
        "error": "The generation failed" if phase == "failed" else "",
        "timings": {"inference": round(task.generation_s * 1000) if task.ended else 0},
    }


def _size(body: dict[str, Any], *, default: tuple[int, int]) -> tuple[int, int]:
    """From `size` "W*H", a video's `resolution`, or `width` and `height`."""
    size, resolution = body.get("size"), body.get("resolution")
    if size is not None:
        parts = str(size).replace("x", "*").split("*")
        if len(parts) != 2 or not all(part.isdecimal() and len(part) < 6 for part in parts):
            raise Refusal(400, 'size: "width*height"')
        width, height = int(parts[0]), int(parts[1])
    elif resolution is not None:
        if resolution not in _HEIGHTS:
            raise Refusal(400, f"resolution: one of {', '.join(_HEIGHTS)}")
        width, height = _HEIGHTS[resolution]
    else:
        width = int(number(body, "width", default[0], low=1, high=_MAX_SIDE))
        height = int(number(body, "height", default[1], low=1, high=_MAX_SIDE))
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise Refusal(400, f"size: each side 1 to {_MAX_SIDE}")
    return width, height

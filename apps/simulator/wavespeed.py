"""The WaveSpeedAI wire protocol (v3): submit, result, webhook secret, signed webhooks.

Envelope: `{"code": 200, "message": "success", "data": {…prediction…}}`; an error has `code` (the HTTP
status), `message` and no data. The prediction carries no price.
"""

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from apps.simulator import outputs
from apps.simulator.door import Door, Refusal, json_object, number, text
from apps.simulator.engine import Task
from apps.simulator.orders import Order, kind_of
from apps.simulator.provider import Provider

_SYNC_TIMEOUT = 5004
_HEIGHTS = {"360p": (640, 360), "480p": (854, 480), "720p": (1280, 720), "1080p": (1920, 1080)}
_MAX_SIDE = 4096


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
        return _success(_prediction(task))

    async def _when_ended(self, task: Task) -> Response:
        await self.provider.engine.wait(task, self.provider.knobs.sync_timeout_s)
        if task.ended:
            return _success(_prediction(task))
        return JSONResponse(
            {"code": _SYNC_TIMEOUT, "message": "sync mode timed out", "data": _prediction(task)}
        )

    async def result(self, request: Request) -> Response:
        try:
            self.authenticate(request)
        except Refusal as refusal:
            return self.render(refusal)
        task = self.provider.engine.get(request.path_params["task_id"])
        return _success(_prediction(task)) if task else self.render(Refusal(404, "prediction not found"))

    async def secret(self, request: Request) -> Response:
        try:
            self.authenticate(request)
        except Refusal as refusal:
            return self.render(refusal)
        return _success({"secret": self.provider.options.webhook_secret})

    def announce(self, task: Task) -> None:
        self.provider.webhooks.send(task, json.dumps(_prediction(task)).encode(), self._sign)

    def _sign(self, webhook_id: str, body: bytes) -> dict[str, str]:
        """Hex HMAC-SHA256 over `id.timestamp.body`; the secret is used as text, not base64-decoded."""
        timestamp = str(int(time.time()))
        key = self.provider.options.webhook_secret.removeprefix("whsec_").encode()
        digest = hmac.new(key, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
        return {
            "content-type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v3,{digest}",
        }


def _success(data: dict[str, Any]) -> Response:
    return JSONResponse({"code": 200, "message": "success", "data": data})


def _prediction(task: Task) -> dict[str, Any]:
    delivered = outputs.urls(task) if task.state == "completed" else []
    status = {"open": "processing" if task.started else "created"}.get(task.state, task.state)
    return {
        "id": task.id,
        "model": task.order.model,
        "status": status,
        "outputs": delivered,
        "urls": {"get": f"{task.base_url}/api/v3/predictions/{task.id}/result"},
        "has_nsfw_contents": ["nsfw" in task.faults for _ in delivered],
        "created_at": datetime.fromtimestamp(task.created_at, UTC).isoformat().replace("+00:00", "Z"),
        "error": "The generation failed" if task.state == "failed" else "",
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

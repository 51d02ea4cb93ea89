"""The WaveSpeedAI wire protocol (v3): submit, result, webhook secret, signed webhooks.

Envelope: `{"code": 200, "message": "success", "data": {…prediction…}}`; an error has `code` (the HTTP
status), `message` and no data. The prediction carries no price.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from apps.simulator import connection, outputs
from apps.simulator.engine import Task
from apps.simulator.faults import UnknownFault
from apps.simulator.orders import Order, kind_of
from apps.simulator.provider import Provider

PROTOCOL = "wavespeed"
_SYNC_TIMEOUT = 5004
_HEIGHTS = {"360p": (640, 360), "480p": (854, 480), "720p": (1280, 720), "1080p": (1920, 1080)}
_MAX_SIDE = 4096
_MAX_BODY = 1_000_000


class Refusal(Exception):
    """An answer in the error envelope instead of a task."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})

    def answer(self) -> Response:
        return JSONResponse(
            {"code": self.status, "message": self.message}, status_code=self.status, headers=self.headers
        )


def routes(provider: Provider) -> list[Route]:
    """The protocol's routes, and its webhooks made known to the engine."""
    door = _Door(provider)
    provider.engine.announcers[PROTOCOL] = door.announce
    return [
        Route("/api/v3/webhook/secret", door.secret, methods=["GET"]),
        Route("/api/v3/predictions/{task_id}/result", door.result, methods=["GET"]),
        Route("/api/v3/predictions/{task_id}", door.result, methods=["GET"]),
        Route("/api/v3/{model:path}", door.submit, methods=["POST"]),
    ]


class _Door:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def submit(self, request: Request) -> Response:
        model = request.path_params["model"]
        raw = await request.body()
        submit_id = self._provider.ledger.submit(
            model=model,
            idempotency_key=request.headers.get("idempotency-key"),
            webhook_url=request.query_params.get("webhook"),
            body_sha256=hashlib.sha256(raw).hexdigest(),
            outcome="received",
        )
        try:
            return await self._accept(request, model, raw, submit_id)
        except Refusal as refusal:
            self._provider.ledger.outcome(submit_id, str(refusal.status))
            return refusal.answer()

    async def _accept(self, request: Request, model: str, raw: bytes, submit_id: int) -> Response:
        self._authenticate(request)
        body = _read(raw)
        order = self._order(model, body)
        faults = self._strike(order)
        if not await self._let_through(request, faults):
            self._provider.ledger.outcome(submit_id, "reset" if "reset" in faults else "client gone")
            return Response()
        task = self._provider.engine.accept(
            order,
            protocol=PROTOCOL,
            faults=faults,
            base_url=str(request.base_url).rstrip("/"),
            webhook_url=request.query_params.get("webhook"),
        )
        self._provider.ledger.outcome(submit_id, "accepted", task_id=task.id)
        if "accept-reset" in faults:
            return await self._reset_after(request, task)
        if body.get("enable_sync_mode") is True:
            return await self._when_ended(task)
        return _success(_prediction(task))

    def _authenticate(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        known = self._provider.options.api_keys
        if scheme.lower() != "bearer" or not key.strip() or (known and key.strip() not in known):
            raise Refusal(401, "Unauthorized: invalid API key")

    def _order(self, model: str, body: dict[str, Any]) -> Order:
        seed = _number(body, "seed", -1, low=-1, high=2**63 - 1)
        width, height = _size(body, default=(640, 360) if kind_of(model) == "video" else (1024, 1024))
        return Order(
            model=model,
            prompt=_prompt(body),
            seed=int(seed) if seed >= 0 else self._provider.rng.randrange(2**31),
            width=width,
            height=height,
            count=int(_number(body, "num_images" if "num_images" in body else "n", 1, low=1, high=16)),
            duration_s=float(_number(body, "duration", 5, low=0.1, high=600)),
        )

    def _strike(self, order: Order) -> dict[str, float | None]:
        try:
            return self._provider.faults.strike(prompt=order.prompt, model=order.model)
        except UnknownFault as error:
            raise Refusal(400, str(error)) from error

    async def _let_through(self, request: Request, faults: dict[str, float | None]) -> bool:
        """The faults that come before a task is accepted. Raises Refusal; False: nobody to answer."""
        hang_s = faults.get("hang") or self._provider.knobs.hang_s
        if "hang" in faults and not await connection.still_waits(request, hang_s):
            return False
        if "429" in faults:
            retry_after_s = faults["429"] if faults["429"] is not None else 1
            raise Refusal(429, "Too many requests", {"Retry-After": f"{retry_after_s:g}"})
        if "500" in faults:
            raise Refusal(500, "Internal server error")
        if "reset" in faults:
            await connection.reset(request)
            return False
        return True

    async def _reset_after(self, request: Request, task: Task) -> Response:
        if task.ended:
            # Its end was to be told by the answer that now gets lost.
            self._provider.engine.announce(task)
        await connection.reset(request)
        return Response()

    async def _when_ended(self, task: Task) -> Response:
        await self._provider.engine.wait(task, self._provider.knobs.sync_timeout_s)
        if task.ended:
            return _success(_prediction(task))
        return JSONResponse(
            {"code": _SYNC_TIMEOUT, "message": "sync mode timed out", "data": _prediction(task)}
        )

    async def result(self, request: Request) -> Response:
        try:
            self._authenticate(request)
        except Refusal as refusal:
            return refusal.answer()
        task = self._provider.engine.get(request.path_params["task_id"])
        return _success(_prediction(task)) if task else Refusal(404, "prediction not found").answer()

    async def secret(self, request: Request) -> Response:
        try:
            self._authenticate(request)
        except Refusal as refusal:
            return refusal.answer()
        return _success({"secret": self._provider.options.webhook_secret})

    def announce(self, task: Task) -> None:
        self._provider.webhooks.send(task, json.dumps(_prediction(task)).encode(), self._sign)

    def _sign(self, webhook_id: str, body: bytes) -> dict[str, str]:
        """Hex HMAC-SHA256 over `id.timestamp.body`; the secret is used as text, not base64-decoded."""
        timestamp = str(int(time.time()))
        key = self._provider.options.webhook_secret.removeprefix("whsec_").encode()
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


def _read(raw: bytes) -> dict[str, Any]:
    if len(raw) > _MAX_BODY:
        raise Refusal(413, "body too large")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "body is not JSON") from error
    if not isinstance(body, dict):
        raise Refusal(400, "body is not a JSON object")
    return body


def _prompt(body: dict[str, Any]) -> str:
    # Speech models of this provider call it text.
    prompt = body.get("prompt", body.get("text"))
    if not isinstance(prompt, str) or not prompt.strip():
        raise Refusal(400, "prompt: required")
    return prompt


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
        width = int(_number(body, "width", default[0], low=1, high=_MAX_SIDE))
        height = int(_number(body, "height", default[1], low=1, high=_MAX_SIDE))
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise Refusal(400, f"size: each side 1 to {_MAX_SIDE}")
    return width, height


def _number(body: dict[str, Any], name: str, default: float, *, low: float, high: float) -> float:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Refusal(400, f"{name}: a number from {low} to {high}")
    return value

"""The Replicate wire protocol (v1) under `/replicate/v1`: predictions, their list, cancel, account, webhook secret.

A prediction is answered bare, 201 when created; an error is `{"title", "detail", "status"}`. Webhooks carry the
prediction, signed by Standard Webhooks. The prediction carries no price.
"""

import json
import re
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

_PREFIX = "/replicate"
_MAX_SIDE = 4096
_WORDS = {"queued": "starting", "generating": "processing", "completed": "succeeded"}
_RATIOS = {
    "1:1": (1024, 1024),
    "16:9": (1344, 768),
    "9:16": (768, 1344),
    "4:3": (1152, 896),
    "3:4": (896, 1152),
}
_PAGE = 100


def routes(provider: Provider) -> list[Route]:
    """The protocol's routes, and its webhooks made known to the engine."""
    door = _Door(provider)
    v1 = f"{_PREFIX}/v1"
    return [
        Route(f"{v1}/account", door.account, methods=["GET"]),
        Route(f"{v1}/webhooks/default/secret", door.secret, methods=["GET"]),
        Route(f"{v1}/predictions", door.latest, methods=["GET"]),
        Route(f"{v1}/predictions", door.place, methods=["POST"]),
        Route(f"{v1}/predictions/{{task_id}}", door.prediction, methods=["GET"]),
        Route(f"{v1}/predictions/{{task_id}}/cancel", door.cancel, methods=["POST"]),
        Route(f"{v1}/models/{{model:path}}/predictions", door.place, methods=["POST"]),
    ]


class _Door(Door):
    protocol = "replicate"

    async def place(self, request: Request) -> Response:
        model = request.path_params.get("model") or _version(await request.body())
        return await self.submit(request, model)

    def render(self, refusal: Refusal) -> Response:
        detail = refusal.message
        if refusal.reason == "rate":
            wait_s = refusal.headers.get("Retry-After", "1")
            detail = f"Request was throttled. Expected available in {wait_s} seconds."
        problem = {"title": refusal.message, "detail": detail, "status": refusal.status}
        return JSONResponse(problem, refusal.status, headers=refusal.headers)

    def webhook_url(self, request: Request, raw: bytes) -> str | None:
        try:
            url = json_object(raw).get("webhook")
        except Refusal:
            return None
        return url if isinstance(url, str) else None

    def read(self, request: Request, model: str, raw: bytes) -> Order:
        if not model:
            raise Refusal(422, "version: required")
        given = json_object(raw).get("input")
        if not isinstance(given, dict):
            raise Refusal(422, "input: an object is required")
        seed = number(given, "seed", -1, low=-1, high=2**63 - 1)
        width, height = _size(given, default=(640, 360) if kind_of(model) == "video" else (1024, 1024))
        return Order(
            model=model,
            prompt=text(given, "prompt", "text"),
            seed=int(seed) if seed >= 0 else self.provider.rng.randrange(2**31),
            width=width,
            height=height,
            count=int(number(given, "num_outputs", 1, low=1, high=16)),
            duration_s=float(number(given, "duration", 5, low=0.1, high=600)),
        )

    async def accepted(self, request: Request, task: Task, raw: bytes) -> Response:
        wait_s = _wait_s(request.headers.get("prefer", ""))
        if wait_s is None:
            return JSONResponse(_prediction(task, told(task)), 201)
        await self.provider.engine.wait(task, wait_s)
        # What has not ended when the wait is over is called starting, whatever it does.
        return JSONResponse(_prediction(task, told(task) if task.ended else "queued"), 201)

    async def prediction(self, request: Request) -> Response:
        return await self.show(
            request,
            request.path_params["task_id"],
            lambda task, phase: JSONResponse(_prediction(task, phase)),
        )

    async def cancel(self, request: Request) -> Response:
        def answer(task: Task, stopped: bool) -> Response:
            # A cancel that comes too late changes nothing and is no error.
            return JSONResponse(_prediction(task, told(task)))

        return await self.stop(request, request.path_params["task_id"], answer)

    async def latest(self, request: Request) -> Response:
        """The newest first, of those made before `created_before` (ISO 8601), without further pages: the simulator
        forgets."""
        self.provider.ledger.call(self.protocol, "list")
        if refused := self._unauthenticated(request):
            return refused
        before = request.query_params.get("created_before")
        try:
            until = datetime.fromisoformat(before).timestamp() if before else None
        except ValueError:
            return self.render(Refusal(422, "created_before: ISO 8601"))
        rows = self.provider.ledger.latest_tasks(_PAGE, protocol=self.protocol, before=until)
        tasks = [self.provider.engine.get(row["id"]) or Task.from_row(row) for row in rows]
        results = [_prediction(task, told(task)) for task in tasks]
        return JSONResponse({"previous": None, "next": None, "results": results})

    async def account(self, request: Request) -> Response:
        me = {"type": "organization", "username": "simulator", "name": "Simulator", "github_url": ""}
        return self._unauthenticated(request) or JSONResponse(me)

    async def secret(self, request: Request) -> Response:
        return self._unauthenticated(request) or JSONResponse({"key": self.provider.options.webhook_secret})

    def news(self, task: Task, phase: Phase) -> bytes:
        return json.dumps(_prediction(task, phase)).encode()

    def sign(self, webhook_id: str, body: bytes, stamp: Stamp) -> dict[str, str]:
        return standard.headers(self.provider.options.webhook_secret, webhook_id, body, stamp)

    def strike(self, order: Order) -> dict[str, float | None]:
        """Models here fail on what they find unsafe."""
        struck = super().strike(order)
        return {**struck, "failed": None} if _is_unsafe(struck) else struck

    def _unauthenticated(self, request: Request) -> Response | None:
        try:
            self.authenticate(request)
        except Refusal as refusal:
            return self.render(refusal)
        return None


def _prediction(task: Task, phase: Phase | str) -> dict[str, Any]:
    url = f"{task.base_url}{_PREFIX}/v1/predictions/{task.id}"
    begun = phase not in ("queued", "canceled") or (phase == "canceled" and task.starts_at <= task.ends_at)
    over = phase in ("completed", "failed", "canceled")
    error = (
        "NSFW content detected. Try a different prompt."
        if _is_unsafe(task.faults)
        else "The generation failed"
    )
    return {
        "id": task.id,
        "model": task.order.model,
        "version": "hidden",
        "status": _WORDS.get(phase, phase),
        "input": {"prompt": task.order.prompt, "seed": task.order.seed},
        "output": _output(task) if phase == "completed" else None,
        "logs": "",
        "error": error if phase == "failed" else None,
        "metrics": {"predict_time": round(task.generation_s, 3)} if over and begun else {},
        "created_at": _time(task.created_at),
        "started_at": _time(task.starts_at) if begun else None,
        "completed_at": _time(task.ends_at) if over else None,
        "urls": {"get": url, "cancel": f"{url}/cancel"},
    }


def _output(task: Task) -> list[str] | str | None:
    """Image models give a list, the others one address."""
    urls = outputs.urls(task)
    return urls if task.order.kind == "image" else next(iter(urls), None)


def _is_unsafe(faults: dict[str, float | None]) -> bool:
    return bool({"nsfw", "filtered"} & faults.keys())


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _version(raw: bytes) -> str:
    try:
        version = json_object(raw).get("version")
    except Refusal:
        return ""
    return version if isinstance(version, str) else ""


def _wait_s(prefer: str) -> float | None:
    """Of `Prefer: wait` or `wait=N`: a minute, or 1 to 60 seconds."""
    found = re.search(r"\bwait(?:=(\d+))?\b", prefer)
    if not found:
        return None
    return min(max(float(found[1]), 1.0), 60.0) if found[1] else 60.0


def _size(given: dict[str, Any], *, default: tuple[int, int]) -> tuple[int, int]:
    """From `width` and `height`, or `aspect_ratio`."""
    ratio = given.get("aspect_ratio")
    if ratio is not None and "width" not in given:
        if ratio not in _RATIOS:
            raise Refusal(422, f"aspect_ratio: one of {', '.join(_RATIOS)}")
        return _RATIOS[ratio]
    return (
        int(number(given, "width", default[0], low=1, high=_MAX_SIDE)),
        int(number(given, "height", default[1], low=1, high=_MAX_SIDE)),
    )

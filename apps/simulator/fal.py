"""The fal queue's wire protocol under `/fal`: submit, status, result, cancel; its public keys under `/fal-rest`.

The addresses of a request leave out what comes after the app's owner and alias. A failure is COMPLETED too; then the
result is answered with an error, `{"detail"}`. Webhooks are signed with Ed25519, with no key id: a verifier tries the
published keys (https://docs.fal.ai/model-endpoints/webhooks).
"""

import base64
import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from apps.simulator import outputs
from apps.simulator.door import Door, Refusal, json_object, number, text
from apps.simulator.engine import Phase, Task
from apps.simulator.orders import Order, kind_of
from apps.simulator.outputs import MEDIA
from apps.simulator.provider import Provider
from apps.simulator.webhooks import Stamp

_PREFIX = "/fal"
_MAX_SIDE = 4096
_USER = "github|simulator"
_NAMESPACES = ("workflows", "comfy")
_SIZES = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
_UNSAFE = "The content could not be processed because it was flagged by a content policy violation check."


def routes(provider: Provider) -> list[Route]:
    """The protocol's routes, and its webhooks made known to the engine."""
    door = _Door(provider)
    one = f"{_PREFIX}/{{app:path}}/requests/{{task_id}}"
    return [
        Route("/fal-rest/.well-known/jwks.json", door.keys, methods=["GET"]),
        Route(f"{one}/status", door.status, methods=["GET"]),
        Route(f"{one}/cancel", door.cancel, methods=["PUT"]),
        Route(one, door.result, methods=["GET"]),
        Route(f"{_PREFIX}/{{model:path}}", door.place, methods=["POST"]),
    ]


class _Door(Door):
    protocol = "fal"

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        self._keys = {name: Ed25519PrivateKey.generate() for name in ("present", "next", "foreign")}
        self._published = ["present"]

    async def place(self, request: Request) -> Response:
        return await self.submit(request, request.path_params["model"])

    def key(self, request: Request) -> str:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key.strip() if scheme == "Key" else ""

    def render(self, refusal: Refusal) -> Response:
        detail: object = refusal.message
        if refusal.reason == "moderation":
            issue = {"loc": ["body", "prompt"], "msg": _UNSAFE, "type": "content_policy_violation"}
            return JSONResponse({"detail": [issue]}, 422, headers=refusal.headers)
        if refusal.status == 402:
            # A used-up balance is a matter of rights here.
            locked = {"detail": "User is locked. Reason: Exhausted balance. Top up your balance."}
            return JSONResponse(locked, 403)
        return JSONResponse({"detail": detail}, refusal.status, headers=refusal.headers)

    def webhook_url(self, request: Request, raw: bytes) -> str | None:
        return request.query_params.get("fal_webhook")

    def read(self, request: Request, model: str, raw: bytes) -> Order:
        if len(model.split("/")) < 2:
            raise Refusal(404, "no such app")
        body = json_object(raw)
        seed = number(body, "seed", -1, low=-1, high=2**63 - 1)
        width, height = _size(body, default=(640, 360) if kind_of(model) == "video" else (1024, 1024))
        return Order(
            model=model,
            prompt=text(body, "prompt", "text"),
            seed=int(seed) if seed >= 0 else self.provider.rng.randrange(2**31),
            width=width,
            height=height,
            count=int(number(body, "num_images", 1, low=1, high=16)),
            duration_s=_duration_s(body),
        )

    async def accepted(self, request: Request, task: Task, raw: bytes) -> Response:
        url = _url(task)
        return JSONResponse(
            {
                "status": "IN_QUEUE",
                "request_id": task.id,
                "response_url": url,
                "status_url": f"{url}/status",
                "cancel_url": f"{url}/cancel",
                "queue_position": 0,
            }
        )

    async def status(self, request: Request) -> Response:
        return await self.show(
            request, request.path_params["task_id"], lambda task, phase: JSONResponse(_status(task, phase))
        )

    async def result(self, request: Request) -> Response:
        try:
            task = self.look_up(request, request.path_params["task_id"])
        except Refusal as refusal:
            return self.render(refusal)
        if task.state == "open":
            return JSONResponse({"detail": "Request is still in progress"}, 400)
        if task.state == "completed":
            return JSONResponse(_payload(task))
        status, kind, detail = _failure(task)
        return JSONResponse({"detail": detail}, status, headers={"X-Fal-Error-Type": kind})

    async def cancel(self, request: Request) -> Response:
        def answer(task: Task, stopped: bool) -> Response:
            if stopped:
                return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)
            return JSONResponse({"status": "ALREADY_COMPLETED"}, 400)

        return await self.stop(request, request.path_params["task_id"], answer)

    def look_up(self, request: Request, task_id: str) -> Task:
        task = super().look_up(request, task_id)
        if request.path_params["app"] != _app(task.order.model):
            raise Refusal(404, "not found")
        return task

    async def keys(self, request: Request) -> Response:
        """The JSON Web Key Set (RFC 7517, RFC 8037)."""
        return JSONResponse({"keys": [_jwk(name, self._keys[name]) for name in self._published]})

    def news(self, task: Task, phase: Phase) -> bytes:
        body: dict[str, Any] = {"request_id": task.id, "gateway_request_id": task.id}
        if task.state == "completed":
            body |= {"status": "OK", "error": None, "payload": _payload(task)}
        else:
            status, _, detail = _failure(task)
            error = f"Unexpected status code: {status}"
            body |= {"status": "ERROR", "error": error, "payload": {"detail": detail}}
        return json.dumps(body).encode()

    def sign(self, webhook_id: str, body: bytes, stamp: Stamp) -> dict[str, str]:
        """Hex Ed25519 over four lines; a rotated key is published before it is used."""
        if stamp.key == "next":
            self._published = ["present", "next"]
        named, at = json.loads(body)["request_id"], f"{stamp.at:.0f}"
        message = f"{named}\n{_USER}\n{at}\n{hashlib.sha256(body).hexdigest()}"
        return {
            "content-type": "application/json",
            "x-fal-webhook-request-id": named,
            "x-fal-webhook-user-id": _USER,
            "x-fal-webhook-timestamp": at,
            "x-fal-webhook-signature": self._keys[stamp.key].sign(message.encode()).hex(),
        }


def _app(model: str) -> str:
    """Owner and alias, with the namespace if there is one: what a request's addresses name."""
    parts = model.split("/")
    return "/".join(parts[: 3 if parts[0] in _NAMESPACES else 2])


def _url(task: Task) -> str:
    return f"{task.base_url}{_PREFIX}/{_app(task.order.model)}/requests/{task.id}"


def _status(task: Task, phase: Phase | str) -> dict[str, Any]:
    body: dict[str, Any] = {"request_id": task.id, "response_url": _url(task), "logs": None}
    if phase == "queued":
        return body | {"status": "IN_QUEUE", "queue_position": 0}
    if phase not in ("completed", "failed", "canceled"):
        return body | {"status": "IN_PROGRESS" if phase == "generating" else phase}
    body |= {"status": "COMPLETED", "metrics": {"inference_time": round(task.generation_s, 3)}}
    if phase == "completed":
        return body
    _, kind, detail = _failure(task)
    return body | {"error": detail, "error_type": kind}


def _failure(task: Task) -> tuple[int, str, str]:
    """Status, type and words of a result that is none."""
    if task.state == "canceled":
        return 499, "client_cancelled", "The request was cancelled"
    return 500, "generation_error", "The generation failed"


def _payload(task: Task) -> dict[str, Any]:
    _, media_type = MEDIA[task.order.kind]
    flagged = bool({"nsfw", "filtered"} & task.faults.keys())
    files = [{"url": url, "content_type": media_type} for url in outputs.urls(task)]
    if task.order.kind != "image":
        return {task.order.kind: files[0] if files else None, "seed": task.order.seed}
    size = {"width": task.order.width, "height": task.order.height}
    return {
        "images": [{**file, **size} for file in files],
        "timings": {"inference": round(task.generation_s, 3)},
        "seed": task.order.seed,
        "has_nsfw_concepts": [flagged for _ in files],
        "prompt": task.order.prompt,
    }


def _jwk(name: str, key: Ed25519PrivateKey) -> dict[str, str]:
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    x = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": name, "x": x}


def _duration_s(body: dict[str, Any]) -> float:
    """A number; some models take it as text."""
    duration = body.get("duration", 5)
    if isinstance(duration, str) and duration.isdecimal():
        duration = int(duration)
    return float(number({"duration": duration}, "duration", 5, low=0.1, high=600))


def _size(body: dict[str, Any], *, default: tuple[int, int]) -> tuple[int, int]:
    """From `image_size`: a name, or width and height."""
    size = body.get("image_size")
    if size is None:
        return default
    if isinstance(size, str) and size in _SIZES:
        return _SIZES[size]
    if not isinstance(size, dict):
        raise Refusal(422, f"image_size: an object, or one of {', '.join(_SIZES)}")
    return (
        int(number(size, "width", default[0], low=1, high=_MAX_SIDE)),
        int(number(size, "height", default[1], low=1, high=_MAX_SIDE)),
    )

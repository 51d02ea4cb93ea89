"""What every protocol's front end does: read an order, let the asked-for fault happen, have it accepted, answer.

A protocol is a subclass that reads its own body, renders its own answers and refusals, and signs its own webhooks.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response

from apps.simulator import connection
from apps.simulator.engine import Task
from apps.simulator.faults import UnknownFault
from apps.simulator.orders import Order
from apps.simulator.provider import Provider

_MAX_BODY = 1_000_000


class Refusal(Exception):
    """An error answer instead of a task; each protocol renders it in its own envelope."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


class Door:
    """`protocol` names the front end: its tasks are announced by it."""

    protocol: ClassVar[str]

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        provider.engine.announcers[self.protocol] = self.announce

    # --- What a protocol says in its own words ---

    def render(self, refusal: Refusal) -> Response:
        raise NotImplementedError

    def read(self, request: Request, model: str, raw: bytes) -> Order:
        """The order of a submit's body. Raises Refusal."""
        raise NotImplementedError

    async def accepted(self, request: Request, task: Task, raw: bytes) -> Response:
        """The answer to a submit that was accepted."""
        raise NotImplementedError

    def announce(self, task: Task) -> None:
        """Sends the webhook of a task that ended (or, where the protocol has it, moved)."""
        raise NotImplementedError

    def key(self, request: Request) -> str:
        """The API key that the request brings; empty if none."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""

    def webhook_url(self, request: Request, raw: bytes) -> str | None:
        """Where the client wants to be told."""
        return None

    # --- What they have in common ---

    async def submit(self, request: Request, model: str) -> Response:
        raw = await request.body()
        submit_id = self.provider.ledger.submit(
            model=model,
            idempotency_key=request.headers.get("idempotency-key"),
            webhook_url=self.webhook_url(request, raw),
            body_sha256=hashlib.sha256(raw).hexdigest(),
            outcome="received",
        )
        try:
            return await self._accept(request, model, raw, submit_id)
        except Refusal as refusal:
            self.provider.ledger.outcome(submit_id, str(refusal.status))
            return self.render(refusal)

    def authenticate(self, request: Request) -> None:
        known, key = self.provider.options.api_keys, self.key(request)
        if not key or (known and key not in known):
            raise Refusal(401, "Unauthorized: invalid API key")

    async def _accept(self, request: Request, model: str, raw: bytes, submit_id: int) -> Response:
        self.authenticate(request)
        if len(raw) > _MAX_BODY:
            raise Refusal(413, "body too large")
        order = self.read(request, model, raw)
        faults = self._strike(order)
        if not await self._let_through(request, faults):
            self.provider.ledger.outcome(submit_id, "reset" if "reset" in faults else "client gone")
            return Response()
        task = self.provider.engine.accept(
            order,
            protocol=self.protocol,
            faults=faults,
            base_url=str(request.base_url).rstrip("/"),
            webhook_url=self.webhook_url(request, raw),
        )
        self.provider.ledger.outcome(submit_id, "accepted", task_id=task.id)
        if "accept-reset" in faults:
            return await self._reset_after(request, task)
        return await self.accepted(request, task, raw)

    def _strike(self, order: Order) -> dict[str, float | None]:
        try:
            return self.provider.faults.strike(prompt=order.prompt, model=order.model)
        except UnknownFault as error:
            raise Refusal(400, str(error)) from error

    async def _let_through(self, request: Request, faults: dict[str, float | None]) -> bool:
        """The faults that come before a task is accepted. Raises Refusal; False: nobody to answer."""
        hang_s = faults.get("hang") or self.provider.knobs.hang_s
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
            self.provider.engine.announce(task)
        await connection.reset(request)
        return Response()


def json_object(raw: bytes) -> dict[str, Any]:
    """Raises Refusal."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "body is not JSON") from error
    if not isinstance(body, dict):
        raise Refusal(400, "body is not a JSON object")
    return body


def text(body: Mapping[str, Any], *names: str) -> str:
    """The first of the fields that is there; it must say something."""
    value = next((body[name] for name in names if name in body), None)
    if not isinstance(value, str) or not value.strip():
        raise Refusal(400, f"{names[0]}: required")
    return value


def number(body: Mapping[str, Any], name: str, default: float, *, low: float, high: float) -> float:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Refusal(400, f"{name}: a number from {low} to {high}")
    return value

"""What every protocol's front end does: read an order, let the asked-for fault happen, have it accepted, answer.

A protocol is a subclass that reads its own body, renders its own answers and refusals, and signs its own webhooks.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from apps.simulator import connection, faults
from apps.simulator.engine import Phase, Task
from apps.simulator.faults import UnknownFault
from apps.simulator.orders import Order
from apps.simulator.provider import Provider
from apps.simulator.webhooks import Stamp

_MAX_BODY = 1_000_000
_NGINX = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


class Refusal(Exception):
    """An error answer instead of a task; each protocol renders it in its own envelope.

    `reason` says what a status leaves open: of 429 rate, concurrency or quota; of 400 moderation.
    """

    def __init__(
        self, status: int, message: str, headers: Mapping[str, str] | None = None, *, reason: str = ""
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})
        self.reason = reason


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

    def news(self, task: Task, phase: Phase) -> bytes:
        """The body of the webhook that tells of `phase`."""
        raise NotImplementedError

    def sign(self, webhook_id: str, body: bytes, stamp: Stamp) -> dict[str, str]:
        """The webhook's headers."""
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
            protocol=self.protocol,
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
            return self._refused(refusal)

    async def show(
        self, request: Request, task_id: str, answer: Callable[[Task, Phase | str], Response]
    ) -> Response:
        """A poll: `answer` renders the task and the phase to tell, which may be a word that nobody knows."""
        self.provider.ledger.call(self.protocol, "poll")
        try:
            task = self.look_up(request, task_id)
            task.polls += 1
            _strike_poll(task)
        except Refusal as refusal:
            return self._refused(refusal)
        if _strikes(task, "poll-reset"):
            await connection.reset(request)
            return Response()
        shown = answer(task, told(task))
        return _cut_short(shown) if _strikes(task, "poll-garbled") else shown

    async def stop(
        self, request: Request, task_id: str, answer: Callable[[Task, bool], Response]
    ) -> Response:
        """A cancel: `answer` renders the task, and whether the cancel came in time (or is said to)."""
        self.provider.ledger.call(self.protocol, "cancel")
        try:
            task = self.look_up(request, task_id)
        except Refusal as refusal:
            return self._refused(refusal)
        return answer(task, self.provider.engine.cancel(task))

    def look_up(self, request: Request, task_id: str) -> Task:
        """The client's task. Raises Refusal."""
        self.authenticate(request)
        task = self.provider.engine.get(task_id)
        if task is None or task.protocol != self.protocol:
            raise Refusal(404, "not found")
        return task

    def announce(self, task: Task) -> None:
        """Sends the webhook of a task that ended."""
        self.provider.webhooks.send(task, self.news(task, task.phase), self.sign)
        if "unordered-webhooks" in task.faults:
            self.provider.webhooks.send(task, self.news(task, "generating"), self.sign)

    def authenticate(self, request: Request) -> None:
        """Raises Refusal."""
        known, key = self.provider.options.api_keys, self.key(request)
        if not key or (known and key not in known):
            raise Refusal(401, "Unauthorized: invalid API key")

    async def _accept(self, request: Request, model: str, raw: bytes, submit_id: int) -> Response:
        self.authenticate(request)
        if len(raw) > _MAX_BODY:
            raise Refusal(413, "body too large")
        order = self.read(request, model, raw)
        struck = self.strike(order)
        if not await self._let_through(request, struck):
            self.provider.ledger.outcome(submit_id, "reset" if "reset" in struck else "client gone")
            return Response()
        task = self.provider.engine.accept(
            order,
            protocol=self.protocol,
            faults=struck,
            base_url=str(request.base_url).rstrip("/"),
            webhook_url=self.webhook_url(request, raw),
        )
        self.provider.ledger.outcome(submit_id, "accepted", task_id=task.id)
        return await self._answer(request, task, raw)

    def strike(self, order: Order) -> dict[str, float | None]:
        """The faults asked for, or one by chance. Raises Refusal."""
        try:
            asked = self.provider.faults.strike(prompt=order.prompt, model=order.model)
        except UnknownFault as error:
            raise Refusal(400, str(error)) from error
        return asked or self._by_chance(order.model)

    def _by_chance(self, model: str) -> dict[str, float | None]:
        knobs, rng = self.provider.knobs, self.provider.rng
        rates = [rate for part, rate in knobs.error_rates.items() if part in self.protocol or part in model]
        if not rates or not knobs.error_mix or rng.random() >= max(rates):
            return {}
        rule = faults.parse(rng.choice(knobs.error_mix))
        return {rule.name: rule.value}

    async def _let_through(self, request: Request, struck: dict[str, float | None]) -> bool:
        """The faults that come before a task is accepted. Raises Refusal; False: nobody to answer."""
        hang_s = struck.get("hang") or self.provider.knobs.hang_s
        if "hang" in struck and not await connection.still_waits(request, hang_s):
            return False
        for name, value in struck.items():
            if refusal := refusal_of(name, value):
                raise refusal
        if "reset" in struck:
            await connection.reset(request)
            return False
        return True

    def _refused(self, refusal: Refusal) -> Response:
        """A gateway in front of the provider speaks no protocol."""
        if refusal.status in (502, 504):
            return Response(_NGINX.format(refusal.message), refusal.status, media_type="text/html")
        return self.render(refusal)

    async def _answer(self, request: Request, task: Task, raw: bytes) -> Response:
        """The answer to a submit, or what the task's faults make of it."""
        struck = task.faults
        if "early-webhook" in struck:
            self.provider.engine.announce(task)
            await self.provider.webhooks.sent(task)
        lost = {"accept-reset", "accept-hang", "accept-garbled", "accept-html", "accept-short", "accept-cut"}
        if task.ended and "early-webhook" not in struck and lost & struck.keys():
            # Its end was to be told by the answer that now gets lost.
            self.provider.engine.announce(task)
        if "accept-reset" in struck:
            await connection.reset(request)
            return Response()
        if "accept-hang" in struck:
            await connection.still_waits(request, struck["accept-hang"] or self.provider.knobs.hang_s)
        if "accept-html" in struck:
            return Response(_NGINX.format("Maintenance"), media_type="text/html")
        answer = await self.accepted(request, task, raw)
        return _spoilt(request, answer, struck)


def told(task: Task) -> Phase | str:
    """The phase that an answer tells, as far as its faults let it."""
    if "early-webhook" in task.faults and not task.polls:
        return "queued"
    if "unknown-status" in task.faults and not task.ended:
        return "defragmenting"
    if "regress" in task.faults and task.polls % 2 == 0 and task.polls:
        return "generating" if task.ended else "queued"
    return task.phase


def refusal_of(fault: str, value: float | None) -> Refusal | None:
    """What a fault of a submit is answered with."""
    if fault.startswith("429"):
        return _too_many(fault, value)
    if fault == "refused":
        return Refusal(400, "The prompt was rejected by our safety system", reason="moderation")
    known = {
        "401": "Unauthorized: invalid API key",
        "402": "Insufficient credit",
        "404": "The model was retired",
        "500": "Internal server error",
        "502": "Bad Gateway",
        "503": "Service temporarily unavailable",
        "504": "Gateway Time-out",
    }
    return Refusal(int(fault), known[fault]) if fault in known else None


def _too_many(fault: str, value: float | None) -> Refusal:
    if fault == "429-concurrency":
        return Refusal(429, "Too many concurrent requests", reason="concurrency")
    if fault == "429-quota":
        return Refusal(429, "Quota exceeded, please check your plan and billing details", reason="quota")
    waits = {
        "429": f"{1 if value is None else value:g}",
        "429-date": formatdate(time.time() + (7 if value is None else value), usegmt=True),
        "429-absurd": "946080000",
    }
    headers = {"Retry-After": waits[fault]} if fault in waits else {}
    return Refusal(429, "Too many requests", headers, reason="rate")


def _strikes(task: Task, fault: str) -> bool:
    """Whether this poll is one of the first that the fault spoils."""
    polls = task.value(fault, 2)
    return polls is not None and task.polls <= polls


def _strike_poll(task: Task) -> None:
    """Raises Refusal."""
    if _strikes(task, "forgetful"):
        raise Refusal(404, "not found")
    if _strikes(task, "poll-500"):
        raise Refusal(500, "Internal server error")
    if _strikes(task, "poll-502"):
        raise Refusal(502, "Bad Gateway")
    if _strikes(task, "poll-429"):
        raise Refusal(429, "Too many requests", {"Retry-After": "3"}, reason="rate")


def _spoilt(request: Request, answer: Response, faults: Mapping[str, float | None]) -> Response:
    if "accept-garbled" in faults:
        return _cut_short(answer)
    if "accept-short" in faults or "accept-cut" in faults:
        data = bytes(answer.body)
        half = connection.part(request, data, politely="accept-short" in faults)
        headers = {"content-length": str(len(data))}
        return StreamingResponse(half, answer.status_code, headers, answer.media_type)
    return answer


def _cut_short(answer: Response) -> Response:
    """The first half of the body, as if it were all."""
    data = bytes(answer.body)
    return Response(data[: len(data) // 2], answer.status_code, media_type="application/json")


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

"""OpenAI's files and batches under `/openai/v1`: pictures ordered by the thousand, at half the price.

A JSONL file is uploaded and ordered as a batch; each line is an order of its own, with the faults of its own prompt.
What came of the lines is read from two files, one of successes and one of errors, in any order, by `custom_id`. A file
with a line that is no order fails as a whole before anything is made, as with the real provider. Faults of an order for
a batch itself are asked for by the admin API, for the model `batch`.
"""

import asyncio
import hashlib
import json
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from apps.simulator import forms
from apps.simulator.door import Refusal, json_object
from apps.simulator.openai import Pictures
from apps.simulator.provider import Provider

_ENDPOINT = "/v1/images/generations"
_MAX_LINES = 50_000
_MAX_BYTES = 200_000_000
# Of the price of a single order.
_SHARE = 0.5
_KEPT_FILES = 10_000
_WINDOW_S = 86_400

Kept = TypeVar("Kept")


@dataclass
class _File:
    id: str
    name: str
    purpose: str
    content: bytes
    created_at: int = field(default_factory=lambda: int(time.time()))

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


@dataclass
class _Batch:
    id: str
    input_file_id: str
    metadata: Any
    status: str = "validating"
    created_at: int = field(default_factory=lambda: int(time.time()))
    total: int = 0
    at: dict[str, int] = field(default_factory=dict)
    outputs: list[bytes] = field(default_factory=list)
    failures: list[bytes] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    file_ids: dict[str, str] = field(default_factory=dict)

    def move(self, status: str) -> None:
        self.status = status
        self.at[f"{status}_at"] = int(time.time())

    def shown(self) -> dict[str, Any]:
        counts = {"total": self.total, "completed": len(self.outputs), "failed": len(self.failures)}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": _ENDPOINT,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "created_at": self.created_at,
            "expires_at": self.created_at + _WINDOW_S,
            "request_counts": counts,
            "metadata": self.metadata,
            "errors": {"object": "list", "data": self.faults} if self.faults else None,
            **self.file_ids,
            **self.at,
        }


def routes(provider: Provider) -> list[Route]:
    desk = _Desk(Pictures(provider))
    return [
        Route("/openai/v1/files", desk.upload, methods=["POST"]),
        Route("/openai/v1/files/{id}", desk.file, methods=["GET"]),
        Route("/openai/v1/files/{id}/content", desk.content, methods=["GET"]),
        Route("/openai/v1/batches", desk.create, methods=["POST"]),
        Route("/openai/v1/batches", desk.list, methods=["GET"]),
        Route("/openai/v1/batches/{id}", desk.batch, methods=["GET"]),
        Route("/openai/v1/batches/{id}/cancel", desk.cancel, methods=["POST"]),
    ]


class _Desk:
    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._provider = pictures.provider
        # The latest only: tests upload many.
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._batches: OrderedDict[str, _Batch] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()

    # --- Files ---

    async def upload(self, request: Request) -> Response:
        raw = await request.body()
        try:
            self._pictures.authenticate(request)
            if len(raw) > _MAX_BYTES:
                raise Refusal(413, "The file is too large.")
            form = forms.fields(request.headers.get("content-type", ""), raw)
            if "file" not in form or form.get("purpose") != b"batch":
                raise Refusal(400, "file and purpose=batch are required")
        except Refusal as refusal:
            return self._pictures.render(refusal)
        return JSONResponse(self._keep("batch.jsonl", "batch", form["file"]).shown())

    async def file(self, request: Request) -> Response:
        try:
            return JSONResponse(self._find(request, self._files).shown())
        except Refusal as refusal:
            return self._pictures.render(refusal)

    async def content(self, request: Request) -> Response:
        try:
            return Response(self._find(request, self._files).content, media_type="application/octet-stream")
        except Refusal as refusal:
            return self._pictures.render(refusal)

    def _keep(self, name: str, purpose: str, content: bytes) -> _File:
        kept = _File(f"file-{uuid.uuid4().hex}", name, purpose, content)
        self._files[kept.id] = kept
        while len(self._files) > _KEPT_FILES:
            self._files.popitem(last=False)
        return kept

    def _find(self, request: Request, among: "OrderedDict[str, Kept]") -> Kept:
        """Raises Refusal."""
        self._pictures.authenticate(request)
        found = among.get(request.path_params["id"])
        if found is None:
            raise Refusal(404, f"No such object: {request.path_params['id']}")
        return found

    # --- Batches ---

    async def create(self, request: Request) -> Response:
        raw = await request.body()
        try:
            self._pictures.authenticate(request)
            body = json_object(raw)
            if (body.get("endpoint"), body.get("completion_window")) != (_ENDPOINT, "24h"):
                raise Refusal(400, f"endpoint must be {_ENDPOINT} and completion_window 24h")
            file = self._files.get(str(body.get("input_file_id")))
            if file is None:
                raise Refusal(400, "input_file_id: no such file")
        except Refusal as refusal:
            return self._pictures.render(refusal)
        batch = _Batch(f"batch_{uuid.uuid4().hex}", file.id, body.get("metadata"))
        return await self._pictures.placed(request, lambda: self._begin(request, batch, file.content))

    def _begin(self, request: Request, batch: _Batch, content: bytes) -> Response:
        self._batches[batch.id] = batch
        running = asyncio.create_task(self._work(request, batch, content))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return JSONResponse(batch.shown())

    async def batch(self, request: Request) -> Response:
        try:
            return JSONResponse(self._find(request, self._batches).shown())
        except Refusal as refusal:
            return self._pictures.render(refusal)

    async def list(self, request: Request) -> Response:
        try:
            self._pictures.authenticate(request)
        except Refusal as refusal:
            return self._pictures.render(refusal)
        newest, asked = list(reversed(self._batches.values())), request.query_params
        begin = next((at for at, batch in enumerate(newest, 1) if batch.id == asked.get("after")), 0)
        end = begin + min(100, int(asked.get("limit", 20)))
        shown = [batch.shown() for batch in newest[begin:end]]
        return JSONResponse({"object": "list", "data": shown, "has_more": end < len(newest)})

    async def cancel(self, request: Request) -> Response:
        """What was begun is finished, and charged."""
        self._provider.ledger.call(self._pictures.protocol, "cancel")
        try:
            batch = self._find(request, self._batches)
            if batch.status not in ("validating", "in_progress"):
                raise Refusal(409, f"The batch is {batch.status}.")
        except Refusal as refusal:
            return self._pictures.render(refusal)
        batch.move("cancelling")
        return JSONResponse(batch.shown())

    async def _work(self, request: Request, batch: _Batch, content: bytes) -> None:
        lines = _lines(batch, content)
        if batch.faults:
            batch.move("failed")
            return
        if batch.status == "validating":
            batch.move("in_progress")
        free = asyncio.Semaphore(self._provider.knobs.batch_at_once)
        await asyncio.gather(*(self._line(request, batch, line, free) for line in lines))
        self._finish(batch)

    def _finish(self, batch: _Batch) -> None:
        for name, content in (("output", batch.outputs), ("error", batch.failures)):
            if content:
                kept = self._keep(f"{batch.id}_{name}.jsonl", "batch_output", b"\n".join(content) + b"\n")
                batch.file_ids[f"{name}_file_id"] = kept.id
        batch.move("cancelled" if batch.status == "cancelling" else "completed")

    async def _line(
        self, request: Request, batch: _Batch, line: dict[str, Any], free: asyncio.Semaphore
    ) -> None:
        async with free:
            if batch.status == "cancelling":
                return
            answer = await self._made(request, line)
        told = {
            "id": f"batch_req_{uuid.uuid4().hex}",
            "custom_id": line["custom_id"],
            "response": {
                "status_code": answer.status_code,
                "request_id": f"req_{uuid.uuid4().hex}",
                "body": json.loads(bytes(answer.body)),
            },
            "error": None,
        }
        lines = batch.outputs if answer.status_code == 200 else batch.failures
        lines.append(json.dumps(told).encode())

    async def _made(self, request: Request, line: dict[str, Any]) -> Response:
        """One line's answer, as if it were ordered alone."""
        raw = json.dumps(line["body"]).encode()
        model = str(line["body"].get("model", ""))
        ledger = self._provider.ledger
        submit_id = ledger.submit(
            protocol=self._pictures.protocol,
            model=model,
            idempotency_key=line["custom_id"],
            webhook_url=None,
            body_sha256=hashlib.sha256(raw).hexdigest(),
            outcome="received",
        )
        try:
            order = self._pictures.read(request, model, raw)
            struck = self._pictures.strike(order)
            self._pictures.refuse(request, struck)
        except Refusal as refusal:
            ledger.outcome(submit_id, str(refusal.status))
            return self._pictures.render(refusal)
        task = self._provider.engine.accept(
            order,
            protocol=self._pictures.protocol,
            faults={"cost": _SHARE, **struck},
            base_url="",
            webhook_url=None,
        )
        ledger.outcome(submit_id, "accepted", task_id=task.id)
        return await self._pictures.finished(request, task, raw)


def _lines(batch: _Batch, content: bytes) -> "list[dict[str, Any]]":
    """The orders; what is wrong with them is noted in `batch.faults`."""
    lines: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, raw in enumerate(content.splitlines(), start=1):
        line = _line(raw)
        if line is None or line["custom_id"] in seen:
            what = "duplicate_custom_id" if line else "invalid_json_line"
            batch.faults.append({"code": what, "line": number, "message": "not an order", "param": None})
            continue
        seen.add(line["custom_id"])
        lines.append(line)
    if not 1 <= len(lines) <= _MAX_LINES and not batch.faults:
        message = f"a batch has 1 to {_MAX_LINES} lines"
        batch.faults.append({"code": "invalid_file", "line": None, "message": message, "param": None})
    batch.total = len(lines)
    return lines


def _line(raw: bytes) -> dict[str, Any] | None:
    """None if it is no order."""
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not isinstance(line.get("body"), dict):
        return None
    named = isinstance(line.get("custom_id"), str) and line["custom_id"]
    return line if named and (line.get("method"), line.get("url")) == ("POST", _ENDPOINT) else None

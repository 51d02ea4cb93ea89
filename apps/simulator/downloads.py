"""How a delivered file is sent: as it is, or as one of the faults that spoil a download."""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from apps.simulator import connection
from apps.simulator.engine import Task
from apps.simulator.outputs import MEDIA
from apps.simulator.provider import Provider

_HUGE_BYTES = 10_000_000_000
HTML = b"<!doctype html><html><head><title>Error</title></head><body>Origin error</body></html>"
_EXPIRED = (
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
)
# The address where clouds keep a machine's credentials.
_PRIVATE = "http://169.254.169.254/latest/meta-data/"


async def send(provider: Provider, request: Request, task_id: str, name: str) -> Response:
    """`name`: the output's index and extension."""
    task = provider.engine.get(task_id)
    index, _, extension = name.partition(".")
    if task is None or task.state != "completed" or not index.isdecimal():
        return Response(status_code=404)
    expected, media_type = MEDIA[task.order.kind]
    if extension != expected or int(index) >= task.delivered:
        return Response(status_code=404)
    if instead := _instead(task):
        return instead
    file = await provider.outputs.fetch(task, int(index))
    return spoilt(request, task, Response(file, media_type=media_type))


def spoilt(request: Request, task: Task, answer: Response) -> Response:
    """The answer that carries a file, as the task's faults make of it."""
    data, media_type = bytes(answer.body), answer.media_type
    length = {"content-length": str(len(data))}
    if "huge" in task.faults:
        return _huge(media_type)
    if "short-output" in task.faults or "cut-output" in task.faults:
        half = connection.part(request, data, politely="short-output" in task.faults)
        return StreamingResponse(half, headers=length, media_type=media_type)
    if (pause_s := task.value("drip", 1)) is not None:
        return StreamingResponse(_drip(data, pause_s), headers=length, media_type=media_type)
    return Response(data, media_type="text/plain") if "wrong-type" in task.faults else answer


def _instead(task: Task) -> Response | None:
    """What is answered without looking at the file."""
    _, media_type = MEDIA[task.order.kind]
    if "expired" in task.faults:
        return Response(_EXPIRED, 403, media_type="application/xml")
    if "redirect-private" in task.faults:
        return Response(status_code=302, headers={"location": _PRIVATE})
    if "html-output" in task.faults:
        return Response(HTML, media_type=media_type)
    # Before it is drawn, which nobody will look at.
    return _huge(media_type) if "huge" in task.faults else None


def _huge(media_type: str | None) -> Response:
    return StreamingResponse(_endless(), headers={"content-length": str(_HUGE_BYTES)}, media_type=media_type)


async def _endless() -> AsyncIterator[bytes]:
    for _ in range(_HUGE_BYTES // 65_536):
        yield bytes(65_536)
        # Who has left must be noticed: what is sent to nobody does not wait for anybody.
        await asyncio.sleep(0)


async def _drip(data: bytes, pause_s: float) -> AsyncIterator[bytes]:
    for byte in data:
        yield bytes([byte])
        await asyncio.sleep(pause_s)

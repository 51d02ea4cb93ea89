"""HTTP/1.1 connections that a handler may break, as a failing provider's do."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol


class BreakableProtocol(H11Protocol):
    """uvicorn's own protocol; requests also find their transport in their state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base does
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


async def reset(request: Request) -> None:
    """Sends a TCP RST instead of an answer, or of its rest."""
    transport: asyncio.Transport = request.state.transport
    sock = transport.get_extra_info("socket")
    # Linger for no time: closing then resets the connection.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _until_closed(request)


async def part(request: Request, data: bytes, *, politely: bool) -> AsyncIterator[bytes]:
    """Half of a body; then the connection is closed (`politely`), or reset."""
    yield data[: len(data) // 2]
    transport: asyncio.Transport = request.state.transport
    if politely:
        transport.close()
        await _until_closed(request)
    else:
        # What was written must have left: a reset throws away what waits.
        while transport.get_write_buffer_size():
            await asyncio.sleep(0.01)
        await reset(request)


async def still_waits(request: Request, seconds: float) -> bool:
    """Says nothing for so long; False as soon as the client has gone away."""
    try:
        await asyncio.wait_for(_gone(request), seconds)
    except TimeoutError:
        return True
    return False


async def _until_closed(request: Request) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

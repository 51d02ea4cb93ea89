"""Clients in a long poll, in a process of their own: as threads of the process that measures they would slow it down.

    python -m tests.benchmarks.waiters URL KEY COUNT PATH…

Says so in a line once `COUNT` clients wait, each for one of the jobs, and ends when all jobs have ended.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

# A request that was not answered for so long waits: it was not sent away at once.
_LET_IN_S = 1.0


class Crowd:
    """`waiting`: how many requests are under way."""

    def __init__(self, url: str, key: str) -> None:
        self._host = urlsplit(url)
        self._key = key
        self.waiting = 0

    async def wait_for(self, path: str) -> None:
        """Asks until the job has ended."""
        reader, writer = await asyncio.open_connection(self._host.hostname, self._host.port)
        head = f"Host: {self._host.netloc}\r\nAuthorization: Bearer {self._key}\r\n"
        request = f"GET {path}?wait=60 HTTP/1.1\r\n{head}\r\n"
        while True:
            writer.write(request.encode())
            self.waiting += 1
            job = await _answer(reader)
            self.waiting -= 1
            if job["status"] not in ("queued", "running"):
                break
            await asyncio.sleep(1)  # a polite client that was not let in
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> dict[str, object]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if " 200 " not in head.partition("\r\n")[0]:
        raise RuntimeError(head)
    length = int(head.partition("content-length:")[2].partition("\r\n")[0])
    job: dict[str, object] = json.loads(await reader.readexactly(length))
    return job


async def _all(url: str, key: str, count: int, paths: Sequence[str]) -> None:
    crowd = Crowd(url, key)
    async with asyncio.TaskGroup() as clients:
        for number in range(count):
            clients.create_task(crowd.wait_for(paths[number % len(paths)]))
        since = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - since < _LET_IN_S:
            await asyncio.sleep(0.1)
            if crowd.waiting < count:
                since = asyncio.get_running_loop().time()
        print("waiting", flush=True)


if __name__ == "__main__":
    asyncio.run(_all(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]))

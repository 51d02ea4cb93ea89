"""Sends webhooks the way a provider does: signed, a few times over, giving up in the end; or as a fault asks."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import httpx

from apps.simulator.engine import Task
from apps.simulator.knobs import Knobs
from apps.simulator.ledger import Ledger


@dataclass(frozen=True)
class Stamp:
    """How to sign. `at`: Unix seconds. `key`: the provider's present one, its next one, or somebody else's."""

    at: float
    key: Literal["present", "next", "foreign"] = "present"


# (webhook id, body, stamp) → headers
Sign = Callable[[str, bytes, Stamp], dict[str, str]]


class Sender:
    def __init__(self, knobs: Knobs, ledger: Ledger) -> None:
        self._knobs = knobs
        self._ledger = ledger
        self._client = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=50))
        self._running: dict[asyncio.Task[None], str] = {}

    def send(self, task: Task, body: bytes, sign: Sign) -> None:
        """Returns at once. The id stays the same over all tries; the signature is made anew for each."""
        if task.webhook_url is None:
            return
        webhook_id = uuid.uuid4().hex
        if "lost-webhook" in task.faults:
            self._record(task, webhook_id, 0, None, "lost")
            return
        if "wrong-task" in task.faults:
            body = body.replace(task.id.encode(), uuid.uuid4().hex.encode())
        at_once = 3 if "triple-webhook" in task.faults else 1
        for _ in range(at_once):
            running = asyncio.create_task(self._deliver(task, task.webhook_url, webhook_id, body, sign))
            self._running[running] = task.id
            running.add_done_callback(lambda done: self._running.pop(done, None))

    async def sent(self, task: Task) -> None:
        """Returns when every webhook of the task so far was answered, or given up."""
        await asyncio.gather(
            *(running for running, task_id in self._running.items() if task_id == task.id),
            return_exceptions=True,
        )

    def cancel(self) -> None:
        for running in self._running:
            running.cancel()

    async def close(self) -> None:
        self.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._client.aclose()

    async def _deliver(self, task: Task, url: str, webhook_id: str, body: bytes, sign: Sign) -> None:
        await asyncio.sleep(task.value("late-webhook", 5) or 0)
        for _ in range(2 if "double-webhook" in task.faults else 1):
            for attempt, delay_s in enumerate((0.0, *self._knobs.webhook_retry_delays_s), start=1):
                await asyncio.sleep(delay_s)
                status, error = await self._post(url, *_signed(task, webhook_id, body, sign))
                self._record(task, webhook_id, attempt, status, error)
                if status is not None and 200 <= status < 300:
                    break

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int | None, str | None]:
        timeout = httpx.Timeout(self._knobs.webhook_timeout_s, pool=None)
        try:
            response = await self._client.post(url, content=body, headers=headers, timeout=timeout)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return None, type(error).__name__
        return response.status_code, None

    def _record(
        self, task: Task, webhook_id: str, attempt: int, status: int | None, error: str | None
    ) -> None:
        self._ledger.webhook(
            task_id=task.id,
            protocol=task.protocol,
            webhook_id=webhook_id,
            url=task.webhook_url or "",
            attempt=attempt,
            status=status,
            error=error,
        )


def _signed(task: Task, webhook_id: str, body: bytes, sign: Sign) -> tuple[bytes, dict[str, str]]:
    """The body as it is sent, and its headers."""
    at = time.time() - (task.value("old-timestamp", 3600) or 0)
    foreign, following = "bad-signature" in task.faults, "rotated-key" in task.faults
    headers = sign(webhook_id, body, Stamp(at, "foreign" if foreign else "next" if following else "present"))
    return (
        json.dumps(json.loads(body), indent=1).encode() if "reserialized" in task.faults else body
    ), headers

"""Sends webhooks the way a provider does: signed, a few times over, giving up in the end."""

import asyncio
import uuid
from collections.abc import Callable

import httpx

from apps.simulator.engine import Task
from apps.simulator.knobs import Knobs
from apps.simulator.ledger import Ledger

# (webhook id, body) → headers, for the present moment
Sign = Callable[[str, bytes], dict[str, str]]


class Sender:
    def __init__(self, knobs: Knobs, ledger: Ledger) -> None:
        self._knobs = knobs
        self._ledger = ledger
        self._client = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=50))
        self._running: set[asyncio.Task[None]] = set()

    def send(self, task: Task, body: bytes, sign: Sign) -> None:
        """Returns at once. The id stays the same over all tries; the signature is made anew for each."""
        if task.webhook_url is None:
            return
        webhook_id = uuid.uuid4().hex
        if "lost-webhook" in task.faults:
            self._record(task, webhook_id, 0, None, "lost")
            return
        running = asyncio.create_task(self._deliver(task, task.webhook_url, webhook_id, body, sign))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    def cancel(self) -> None:
        for running in self._running:
            running.cancel()

    async def close(self) -> None:
        self.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._client.aclose()

    async def _deliver(self, task: Task, url: str, webhook_id: str, body: bytes, sign: Sign) -> None:
        for attempt, delay_s in enumerate((0.0, *self._knobs.webhook_retry_delays_s), start=1):
            await asyncio.sleep(delay_s)
            status, error = await self._post(url, body, sign(webhook_id, body))
            self._record(task, webhook_id, attempt, status, error)
            if status is not None and 200 <= status < 300:
                return

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
            webhook_id=webhook_id,
            url=task.webhook_url or "",
            attempt=attempt,
            status=status,
            error=error,
        )

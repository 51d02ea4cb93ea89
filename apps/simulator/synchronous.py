"""What the protocols have in common that answer a submit with the result itself.

The task lives on without its client, as a real provider's does: it ends and is charged, whether anybody hears of it.
"""

from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from apps.simulator.door import Door, Refusal
from apps.simulator.engine import Task

# Longer than any task: the client loses its patience first.
_FOREVER_S = 3600.0


class SynchronousDoor(Door):
    """`sound_s`: how long a text takes to say, seconds per character."""

    sound_s: ClassVar = 0.06

    async def deliver(self, request: Request, task: Task, raw: bytes) -> Response:
        """The answer with the finished task's outputs."""
        raise NotImplementedError

    def failed(self) -> Refusal:
        """What is said of a generation that failed."""
        return Refusal(500, "The server had an error while processing your request")

    def filtered(self) -> Refusal:
        """What is said instead of an output that moderation stopped. Nothing is charged."""
        raise NotImplementedError

    async def accepted(self, request: Request, task: Task, raw: bytes) -> Response:
        await self.provider.engine.wait(task, _FOREVER_S)
        if task.state != "completed":
            return self.render(self.failed())
        return await self.deliver(request, task, raw)

    def announce(self, task: Task) -> None:
        """The answer was the announcement."""

    def spoken_s(self, text: str) -> float:
        return min(30.0, max(1.0, round(len(text) * self.sound_s, 1)))

    async def _let_through(self, request: Request, faults: dict[str, float | None]) -> bool:
        if not await super()._let_through(request, faults):
            return False
        if "nsfw" in faults:
            raise self.filtered()
        return True

"""What the protocols have in common that answer a submit with the result itself.

The task lives on without its client, as a real provider's does: it ends and is charged, whether anybody hears of it.
Faults of a download are faults of the answer here.
"""

from starlette.requests import Request
from starlette.responses import Response

from apps.simulator import downloads
from apps.simulator.door import Door, Refusal, refusal_of
from apps.simulator.engine import Task

# Longer than any task: the client loses its patience first.
_FOREVER_S = 3600.0
# How long a text takes to say, seconds per character.
_SPOKEN_S = 0.06


class SynchronousDoor(Door):
    def deliver(self, request: Request, task: Task, raw: bytes, files: list[bytes]) -> Response:
        """The answer with the finished task's outputs, of which a fault may leave none."""
        raise NotImplementedError

    def filtered(self, request: Request) -> Refusal:
        """What is said instead of an output that moderation stopped. Nothing is charged."""
        raise NotImplementedError

    async def accepted(self, request: Request, task: Task, raw: bytes) -> Response:
        return downloads.spoilt(request, task, await self.finished(request, task, raw))

    async def finished(self, request: Request, task: Task, raw: bytes) -> Response:
        """The answer, once there is one."""
        await self.provider.engine.wait(task, _FOREVER_S)
        if task.state != "completed":
            return self.render(Refusal(500, "The server had an error while processing your request"))
        files = [await self._file(task, index) for index in range(task.delivered)]
        return self.deliver(request, task, raw, files)

    def announce(self, task: Task) -> None:
        """The answer was the announcement."""

    def refuse(self, request: Request, struck: dict[str, float | None]) -> None:
        """Raises the Refusal that the faults ask for, if they do."""
        for name, value in struck.items():
            if refusal := refusal_of(name, value):
                raise refusal
        if {"nsfw", "filtered"} & struck.keys():
            raise self.filtered(request)

    async def _file(self, task: Task, index: int) -> bytes:
        return (
            downloads.HTML if "html-output" in task.faults else await self.provider.outputs.fetch(task, index)
        )

    async def _let_through(self, request: Request, struck: dict[str, float | None]) -> bool:
        if not await super()._let_through(request, struck):
            return False
        self.refuse(request, struck)
        return True


def spoken_s(text: str) -> float:
    return min(30.0, max(1.0, round(len(text) * _SPOKEN_S, 1)))

"""The delivered files: drawn when fetched, in a thread, and kept for a while."""

import asyncio
from collections import OrderedDict
from dataclasses import replace

from apps.simulator.drawing import films, images, sounds
from apps.simulator.engine import Task
from apps.simulator.knobs import Knobs
from apps.simulator.orders import Kind, Order

MEDIA: dict[Kind, tuple[str, str]] = {
    "image": ("png", "image/png"),
    "audio": ("wav", "audio/wav"),
    "video": ("mp4", "video/mp4"),
}
_KEPT_BYTES = 64_000_000


def urls(task: Task) -> list[str]:
    extension, _ = MEDIA[task.order.kind]
    return [f"{task.base_url}/outputs/{task.id}/{index}.{extension}" for index in range(task.delivered)]


class Outputs:
    def __init__(self, knobs: Knobs) -> None:
        self._knobs = knobs
        self._kept: OrderedDict[tuple[str, int, str], bytes] = OrderedDict()
        self._size = 0
        # Two drawings at once are enough; more would only starve the loop that answers.
        self._drawing = asyncio.Semaphore(2)

    async def fetch(self, task: Task, index: int) -> bytes:
        """The whole file, or its first part if the task was told to be truncated."""
        data = await self._whole(task, index)
        return data[: len(data) * 3 // 5] if "truncated" in task.faults else data

    def clear(self) -> None:
        self._kept.clear()
        self._size = 0

    async def _whole(self, task: Task, index: int) -> bytes:
        key = (task.id, index, self._knobs.drawing)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        data = await self._draw(task, index)
        if key not in self._kept:
            self._keep(key, data)
        return data

    async def _draw(self, task: Task, index: int) -> bytes:
        order = _made(task)
        if order.kind == "image" and (colour := _plain(task)):
            return images.plain_png(order, colour)
        if order.kind == "image" and self._knobs.drawing == "tiny":
            return images.tiny_png(order, index)
        async with self._drawing:
            if order.kind == "image":
                return await asyncio.to_thread(images.png, order, index)
            if order.kind == "video":
                return await asyncio.to_thread(films.mp4, order)
            return await asyncio.to_thread(sounds.mp3 if order.sound == "mp3" else sounds.wav, order)

    def _keep(self, key: tuple[str, int, str], data: bytes) -> None:
        self._kept[key] = data
        self._size += len(data)
        while self._size > _KEPT_BYTES:
            self._size -= len(self._kept.popitem(last=False)[1])


def _made(task: Task) -> Order:
    """The order as it is carried out."""
    if "wrong-size" not in task.faults:
        return task.order
    # Films have even sides.
    width, height = (max(2, side // 4 * 2) for side in (task.order.width, task.order.height))
    return replace(task.order, width=width, height=height)


def _plain(task: Task) -> str:
    """The colour of a picture of nothing; empty for a proper picture."""
    if "blank" in task.faults:
        return "white"
    return "black" if {"black", "filtered"} & task.faults.keys() else ""

"""What a task does in time: it waits for a free slot, generates, ends, is charged and is announced.

Start and end are computed when the task is accepted, and one timer ends it: thousands of tasks in flight
cost a heap entry each, and a status is a comparison with the clock.
"""

import asyncio
import heapq
import json
import math
import random
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal

from apps.simulator import faults
from apps.simulator.knobs import Knobs
from apps.simulator.ledger import Ledger
from apps.simulator.orders import Kind, Order

# Median seconds and sigma of the lognormal generation time.
_TIMES: dict[Kind, tuple[float, float]] = {"image": (4.0, 0.7), "video": (45.0, 0.6), "audio": (3.0, 0.5)}
_KEPT = 20_000
_NEVER_S = 1e8

Phase = Literal["queued", "generating", "completed", "failed", "canceled"]


@dataclass(slots=True)
class Task:
    """Times are Unix seconds. `protocol` names the front end that announces the end."""

    id: str
    protocol: str
    order: Order
    faults: dict[str, float | None]
    base_url: str
    webhook_url: str | None
    created_at: float
    starts_at: float
    ends_at: float
    ended: bool = False
    canceled: bool = False
    polls: int = 0

    @property
    def failed(self) -> bool:
        return bool({"failed", "charge-failed"} & self.faults.keys())

    @property
    def started(self) -> bool:
        return self.ended or time.time() >= self.starts_at

    @property
    def state(self) -> str:
        """As the ledger has it: open, completed, failed or canceled."""
        if not self.ended:
            return "open"
        return "canceled" if self.canceled else "failed" if self.failed else "completed"

    @property
    def phase(self) -> Phase:
        """What becomes of it at this moment."""
        if not self.ended:
            return "generating" if self.started else "queued"
        return "canceled" if self.canceled else "failed" if self.failed else "completed"

    @property
    def delivered(self) -> int:
        """How many outputs there are, once it has completed."""
        if "empty" in self.faults:
            return 0
        wanted = self.order.count if self.order.kind == "image" else 1
        if "wrong-n" in self.faults:
            return wanted - 1 if wanted > 1 else 2
        return wanted

    def value(self, fault: str, default: float) -> float | None:
        """The value of a fault that struck this task, None if it did not."""
        if fault not in self.faults:
            return None
        value = self.faults[fault]
        return default if value is None else value

    @property
    def generation_s(self) -> float:
        return self.ends_at - self.starts_at

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Task":
        spec = json.loads(row["spec"])
        state = row["state"]
        told = {"ended": state != "open", "canceled": state == "canceled", "ends_at": row["ends_at"]}
        return cls(**{**spec, "order": Order(**spec["order"]), **told})


class Engine:
    """Must be used from one event loop."""

    def __init__(self, knobs: Knobs, ledger: Ledger, rng: random.Random) -> None:
        self._knobs = knobs
        self._ledger = ledger
        self._rng = rng
        self._open: dict[str, Task] = {}
        # The latest only: what is forgotten is read from the ledger.
        self._ended: OrderedDict[str, Task] = OrderedDict()
        self._slots: list[float] = []
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._refunds: set[asyncio.TimerHandle] = set()
        self._waiting: dict[str, asyncio.Event] = {}
        self.announcers: dict[str, Callable[[Task], None]] = {}

    def accept(
        self,
        order: Order,
        *,
        protocol: str,
        faults: dict[str, float | None],
        base_url: str,
        webhook_url: str | None,
    ) -> Task:
        """The task, already ended if the time scale is 0; otherwise it will be announced when it ends."""
        now = time.time()
        starts_at, ends_at = self._schedule(now, self._duration_s(order))
        if "stuck" in faults:
            ends_at = now + _NEVER_S
        elif "early-webhook" in faults:
            starts_at = ends_at = now
        task = Task(uuid.uuid4().hex, protocol, order, faults, base_url, webhook_url, now, starts_at, ends_at)
        if ends_at <= now:
            self._settle(task)
        else:
            self._save(task)
            self._await_end(task)
        return task

    def get(self, task_id: str) -> Task | None:
        if found := self._open.get(task_id) or self._ended.get(task_id):
            return found
        row = self._ledger.task(task_id)
        return Task.from_row(row) if row else None

    async def wait(self, task: Task, timeout_s: float) -> None:
        """Returns when the task has ended or the time is over."""
        if task.ended:
            return
        event = self._waiting.setdefault(task.id, asyncio.Event())
        try:
            await asyncio.wait_for(event.wait(), timeout_s)
        except TimeoutError:
            return

    def cancel(self, task: Task) -> bool:
        """False: it has ended already. What was not begun is not charged; what was, is."""
        if task.ended:
            return False
        if "cancel-race" in task.faults:
            return True
        if timer := self._timers.pop(task.id, None):
            timer.cancel()
        begun, task.canceled = task.started, True
        task.ends_at = time.time()
        self._settle(task, charged=begun)
        if waiting := self._waiting.pop(task.id, None):
            waiting.set()
        self.announce(task)
        return True

    def resume(self) -> None:
        """Takes up the tasks that an earlier process left open in the ledger."""
        for row in self._ledger.open_tasks():
            self._await_end(Task.from_row(row))

    def reset(self) -> None:
        for timer in (*self._timers.values(), *self._refunds):
            timer.cancel()
        for waiting in self._waiting.values():
            waiting.set()
        for kept in (self._timers, self._waiting, self._open, self._ended, self._slots, self._refunds):
            kept.clear()

    def _duration_s(self, order: Order) -> float:
        exact = faults.exact_time_s(order.prompt)
        if exact is not None:
            return exact * self._knobs.time_scale
        median, sigma = _TIMES[order.kind]
        factor = 10 if self._rng.random() < self._knobs.tail else 1
        return self._rng.lognormvariate(math.log(median), sigma) * factor * self._knobs.time_scale

    def _schedule(self, now: float, duration_s: float) -> tuple[float, float]:
        """Start and end: the slot that is free first takes the task."""
        if duration_s <= 0:
            return now, now
        if len(self._slots) > self._knobs.concurrency:
            # A lowered cap: the next task starts when fewer than the cap are still generating.
            self._slots = sorted(self._slots)[-self._knobs.concurrency :]
        if len(self._slots) < self._knobs.concurrency:
            heapq.heappush(self._slots, now + duration_s)
            return now, now + duration_s
        starts_at = max(now, self._slots[0])
        heapq.heapreplace(self._slots, starts_at + duration_s)
        return starts_at, starts_at + duration_s

    def _await_end(self, task: Task) -> None:
        self._open[task.id] = task
        delay_s = max(0.0, task.ends_at - time.time())
        self._timers[task.id] = asyncio.get_running_loop().call_later(delay_s, self._end, task)

    def _end(self, task: Task) -> None:
        self._timers.pop(task.id, None)
        self._settle(task)
        if waiting := self._waiting.pop(task.id, None):
            waiting.set()
        self.announce(task)

    def announce(self, task: Task) -> None:
        """Has the task's front end send the webhook, if there is one to send."""
        if task.webhook_url:
            self.announcers[task.protocol](task)

    def _settle(self, task: Task, *, charged: bool | None = None) -> None:
        task.ended = True
        self._open.pop(task.id, None)
        self._ended[task.id] = task
        if len(self._ended) > _KEPT:
            self._ended.popitem(last=False)
        self._save(task)
        if charged is None:
            charged = not task.failed or "charge-failed" in task.faults
        if charged:
            self._charge(task)

    def _charge(self, task: Task) -> None:
        factor = Decimal(str(task.value("cost", 1.5) or 1))
        amount_usd = task.order.cost_usd(self._knobs.prices) * factor
        for _ in range(2 if "double-charge" in task.faults else 1):
            self._book(task, amount_usd)
        if (refund_s := task.value("refund", 1)) is not None:
            loop = asyncio.get_running_loop()
            self._refunds.add(loop.call_later(refund_s, self._refund, task))

    def _refund(self, task: Task) -> None:
        self._book(task, -self._ledger.charged_usd(task.id))

    def _book(self, task: Task, amount_usd: Decimal) -> None:
        self._ledger.charge(
            task_id=task.id, protocol=task.protocol, model=task.order.model, amount_usd=amount_usd
        )

    def _save(self, task: Task) -> None:
        self._ledger.save_task(
            task_id=task.id,
            protocol=task.protocol,
            model=task.order.model,
            state=task.state,
            created_at=task.created_at,
            ends_at=task.ends_at,
            spec=task.to_json(),
        )

"""What Flower lives on: the workers' news of each task, which they publish in batches."""

import queue
import threading
from typing import Any

from celery import Celery

from tests.journeys.test_first_job import BODY, SMALL
from tests.stack import Stack

_TIMEOUT_S = 30
CANARY = "canary-of-flower"


def test_flower_is_told_of_every_task_within_seconds(stack: Stack) -> None:
    told: queue.Queue[dict[str, Any]] = queue.Queue()
    listener = Celery(broker=f"{stack.environ['REDIS_URL']}/0", set_as_current=False)
    with listener.connection_for_read() as connection:
        receiver = listener.events.Receiver(connection, handlers={"*": told.put})
        listening = threading.Thread(target=receiver.capture, kwargs={"wakeup": False}, daemon=True)
        listening.start()
        told.get(timeout=_TIMEOUT_S)  # a worker's heartbeat: from now on we hear everything
        asked = {**BODY, "prompt": f"a {CANARY}", "params": SMALL, "cache": "off"}
        stack.client().post("/v1/jobs", json=asked).raise_for_status()
        names: dict[str, str] = {}
        shown: list[str] = []
        done: set[str] = set()
        while not {"jobs.run", "jobs.validate"} <= done:
            event = told.get(timeout=_TIMEOUT_S)
            shown.append(repr(event))
            if event["type"] == "task-received":
                names[event["uuid"]] = event["name"]
            elif event["type"] == "task-succeeded" and event["uuid"] in names:
                done.add(names[event["uuid"]])
        receiver.should_stop = True
        listening.join(timeout=_TIMEOUT_S)
    assert [event for event in shown if CANARY in event or stack.key() in event] == []

"""Real threads with connections of their own, and Celery's messages worked off by hand."""

import random
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from django.db import connection

from genplatform.celery import app
from tests.jobs import bells

T = TypeVar("T")


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The results of all calls, each in its own thread, begun together. Raises what the first to fail raised."""
    together, results, errors = threading.Barrier(len(calls)), list[T](), list[BaseException]()

    def one(call: Callable[[], T]) -> None:
        try:
            together.wait()
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def work_off(*, workers: int, copies: int, shuffle: random.Random) -> int:
    """Has `workers` threads take the messages that wait now, each delivered `copies` times, in any order. How many."""
    waiting = bells.waiting("io") + bells.waiting("cpu")
    bells.clear("io")
    bells.clear("cpu")
    queue = [message for message in waiting for _ in range(copies)]
    shuffle.shuffle(queue)
    taking = threading.Lock()

    def worker() -> None:
        while True:
            with taking:
                if not queue:
                    return
                message = queue.pop()
            app.tasks[message.task](v=1, id=message.id)

    app.loader.import_default_modules()
    if waiting:
        at_once([worker] * workers)
    return len(waiting)

"""Who waits for a row is woken by its news, and who waits for its end only by that."""

import uuid

import pytest

from apps.core import notify
from apps.core.redis import client
from tests.fakes.simulator import wait_until


@pytest.mark.django_db(transaction=True)
def test_news_wake_followers_and_the_end_wakes_everybody() -> None:
    hub, row = notify.Hub(3), uuid.uuid4()
    with (
        hub.place(row) as follower,
        hub.place(row, only_end=True) as waiter,
        hub.place(uuid.uuid4()) as other,
    ):
        assert follower
        assert waiter
        assert other
        wait_until(follower.is_set)  # the subscription has begun: everybody looks once
        for event in (follower, waiter, other):
            event.clear()
        notify.changed(row)
        assert follower.wait(5)
        assert not waiter.is_set()
        follower.clear()
        notify.ended(row)
        assert waiter.wait(5)
        assert follower.wait(5)
        assert not other.is_set()
    hub.close()


@pytest.mark.django_db(transaction=True)
def test_many_that_end_together_are_one_message_that_wakes_each() -> None:
    hub, ended = notify.Hub(3), [uuid.uuid4() for _ in range(1000)]
    with (
        hub.place(ended[0], only_end=True) as first,
        hub.place(ended[-1]) as last,
        hub.place(uuid.uuid4()) as other,
    ):
        assert first
        assert last
        assert other
        wait_until(first.is_set)
        for event in (first, last, other):
            event.clear()
        with client().pubsub() as heard:  # type: ignore[no-untyped-call]  # redis-py
            heard.subscribe(notify.CHANNEL)
            notify.all_ended(ended)
            notify.changed(uuid.uuid4())
            told = [message for message in (heard.get_message(timeout=5) for _ in range(3)) if message]
        assert [message["type"] for message in told] == ["subscribe", "message", "message"]
        assert len(told[1]["data"]) > len(told[2]["data"])
        assert first.wait(5)
        assert last.wait(5)
        assert not other.is_set()
    hub.close()

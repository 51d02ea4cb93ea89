"""Who waits for a row is woken by its news, and who waits for its end only by that."""

import uuid

import pytest

from apps.core import notify
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

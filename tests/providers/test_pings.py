"""A provider that is back is used again within seconds, and one that stays away costs nothing but pings."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from apps.core.redis import client
from apps.providers import breaker_store, call, health, permits, pings, reach
from apps.providers.breaker import Refused
from apps.providers.breaker_store import Name
from apps.providers.contract import GenerationRequest, Ticket
from apps.providers.errors import ErrorKind, ProviderError
from apps.providers.limiter import Caps
from apps.providers.permits import Permit
from tests.fakes.simulator import Simulator
from tests.jobs.engine import Time

pytestmark = pytest.mark.django_db

MODEL = "wavespeed-ai/fast-draft"
REQUEST = GenerationRequest("attempt-1", "image", MODEL, "a fox")
SUBMIT = Name("wavespeed", MODEL, "submit")


@pytest.fixture(autouse=True)
def _patient(settings: Any) -> None:
    """A busy machine is no Redis that is away."""
    settings.PROVIDER_STATE_TIMEOUT_S = 5.0


@pytest.fixture(autouse=True)
def time() -> Iterator[Time]:
    with ExitStack() as undo:
        yield Time(undo)


def ask(token: str = "t") -> Permit | Refused:
    return permits.ask("wavespeed", MODEL, token=token, caps=Caps(), within_s=60)


def order() -> ErrorKind | None:
    """One order, if it is let in. What went wrong with it."""
    permit = ask()
    assert isinstance(permit, Permit), permit
    try:
        call.submit("wavespeed", REQUEST, permit=permit)
    except ProviderError as error:
        return error.kind
    return None


def again(time: Time) -> dict[str, bool]:
    """Looks when it is time to."""
    time.forward(pings._EVERY_S + 0.1)
    return pings.look()


def dead(simulator: Simulator) -> None:
    simulator.settings(dead=["wavespeed"])
    for _ in range(5):
        assert order()
    assert isinstance(ask(), Refused)


def test_the_fifth_failure_in_a_row_closes_the_door_for_all_processes(simulator: Simulator) -> None:
    dead(simulator)
    assert simulator.summary()["calls"]["dead"] == 5
    assert health.of([("wavespeed", MODEL)]).status == "down"


def test_a_provider_that_is_back_is_used_at_once_after_the_next_ping(
    simulator: Simulator, time: Time
) -> None:
    dead(simulator)
    assert again(time) == {"wavespeed": False}
    assert isinstance(ask(), Refused)
    simulator.settings(dead=[])
    assert again(time) == {"wavespeed": True}
    for _ in range(4):
        assert order() is None
    assert breaker_store.states([SUBMIT])[SUBMIT].state == "closed"


def test_a_provider_that_answers_pings_and_fails_orders_is_not_asked_sooner(
    simulator: Simulator, time: Time
) -> None:
    simulator.faults("500")
    for _ in range(5):
        assert order() == ErrorKind.SERVER_ERROR
    time.forward(pings._FIRST_AFTER_S + 0.1)
    assert pings.look() == {"wavespeed": True}
    assert isinstance(ask(), Refused)


def test_two_beats_ping_no_more_than_one(simulator: Simulator, time: Time) -> None:
    dead(simulator)
    assert (len(again(time)), pings.look()) == (1, {})


@pytest.mark.parametrize("outage_s", [60, 320])
def test_an_outage_costs_few_calls_and_its_end_is_seen_within_twenty_seconds(
    simulator: Simulator, time: Time, outage_s: int
) -> None:
    """Somebody wants to order, and beat looks, every second."""
    dead(simulator)
    for _ in range(outage_s):
        time.forward(1)
        pings.look()
        assert isinstance(ask(), Refused)
    assert simulator.summary()["calls"]["dead"] <= 25
    simulator.settings(dead=[])
    healed_at = time.now
    while isinstance(ask(), Refused):
        time.forward(1)
        pings.look()
        assert (time.now - healed_at).total_seconds() <= 18


def test_a_provider_in_good_health_is_not_pinged(simulator: Simulator) -> None:
    assert order() is None
    assert pings.look() == {}


def test_a_provider_that_is_away_is_not_polled_for_each_of_its_jobs(simulator: Simulator) -> None:
    ticket = call.submit("wavespeed", REQUEST).ticket or Ticket("")
    simulator.settings(dead=["wavespeed"])
    for _ in range(30):
        with pytest.raises(ProviderError) as refused:
            call.poll("wavespeed", ticket)
    assert simulator.summary()["calls"]["dead"] == 5
    assert refused.value.kind == ErrorKind.CONNECT
    assert 0 < (refused.value.retry_after_s or 0) <= 10, "asked again soon after it may be back"


def test_a_failed_generation_is_no_sign_that_a_provider_is_away(simulator: Simulator) -> None:
    simulator.settings(time_scale=0)
    failing = GenerationRequest("a", "image", MODEL, "[fault:failed] a fox")
    with pytest.raises(ProviderError):
        call.submit("wavespeed", failing)
    task_id = simulator.ledger()["tasks"][0]["id"]
    for _ in range(10):
        reach.forget()
        with pytest.raises(ProviderError) as ended:
            call.poll("wavespeed", Ticket(task_id))
        assert ended.value.kind == ErrorKind.GENERATION_FAILED


def test_after_a_flush_a_dead_provider_gets_few_calls_at_once(simulator: Simulator) -> None:
    dead(simulator)
    client().flushdb()
    granted = [permit for index in range(50) if isinstance(permit := ask(f"t{index}"), Permit)]
    assert len(granted) == 5


def test_no_call_takes_longer_than_its_job_has_left(simulator: Simulator, settings: Any) -> None:
    hanging = GenerationRequest("a", "image", MODEL, "[fault:hang=20] a fox")
    with pytest.raises(ProviderError) as error:
        call.submit("wavespeed", hanging, within_s=0.0)
    assert error.value.kind == ErrorKind.AMBIGUOUS

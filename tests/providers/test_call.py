"""Every call to a provider goes through `call`, which has the last word on errors and logs no secrets."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from apps.providers import call, registry
from apps.providers.contract import GenerationRequest, Pending, Result, Ticket
from apps.providers.errors import ErrorKind, ProviderError
from apps.providers.models import Provider
from tests.fakes.simulator import Simulator, wait_until

pytestmark = pytest.mark.django_db

REQUEST = GenerationRequest("attempt-1", "image", "wavespeed-ai/fast-draft", "a canary wish")


def kind_of(action: Callable[[], object]) -> ErrorKind:
    with pytest.raises(ProviderError) as caught:
        action()
    return caught.value.kind


def test_an_order_is_placed_and_followed_to_its_result(simulator: Simulator) -> None:
    pending = call.submit("wavespeed", REQUEST)
    assert isinstance(pending, Pending)
    result = wait_until(lambda: _result(call.poll("wavespeed", pending.ticket)))
    assert result.outputs[0].url.startswith(simulator.base_url)
    assert call.cancel("wavespeed", pending.ticket) is False
    assert call.find("wavespeed", REQUEST) is None


def _result(answer: Pending | Result) -> Result | None:
    return answer if isinstance(answer, Result) else None


@pytest.mark.parametrize(
    "providers", [{}, {"wavespeed": {"base_url": "", "api_key": "", "webhook_secret": ""}}]
)
def test_a_provider_without_a_key_is_not_called(settings: Any, providers: dict[str, Any]) -> None:
    settings.PROVIDERS = providers
    assert kind_of(lambda: call.submit("wavespeed", REQUEST)) == ErrorKind.AUTHENTICATION


def test_a_surprise_after_a_submit_is_ambiguous_and_else_malformed(simulator: Simulator) -> None:
    # A prompt that is no text can't be sent as JSON: a mistake of ours, of a kind nobody foresaw.
    broken = GenerationRequest("a", "image", "m", b"bytes", {})  # type: ignore[arg-type]  # the mistake
    assert kind_of(lambda: call.submit("wavespeed", broken)) == ErrorKind.AMBIGUOUS
    assert kind_of(lambda: call.poll("wavespeed", Ticket(None))) == ErrorKind.MALFORMED  # type: ignore[arg-type]  # too


def test_the_log_holds_neither_the_prompt_nor_the_key(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "apps.providers.call")
    with structlog.testing.capture_logs() as logs:
        call.submit("wavespeed", REQUEST)
        kind_of(lambda: call.submit("wavespeed", GenerationRequest("a", "image", "m", "canary [fault:500]")))
    assert [entry["error"] for entry in logs] == [None, ErrorKind.SERVER_ERROR]
    assert all(entry["latency_ms"] >= 0 for entry in logs)
    assert "canary" not in str(logs)
    assert simulator.api_key not in str(logs)


def test_a_provider_is_available_until_ops_switch_it_off(simulator: Simulator) -> None:
    assert registry.is_available("wavespeed")
    Provider.objects.create(slug="wavespeed", name="WaveSpeedAI", enabled=False)
    registry.forget()
    assert not registry.is_available("wavespeed")
    assert not registry.is_available("nobody")


def ordered(count: int) -> list[Ticket]:
    tickets = []
    for number in range(count):
        order = GenerationRequest(
            f"attempt-{number}", "image", "wavespeed-ai/fast-draft", "a wish [time:6000]"
        )
        answer = call.submit("wavespeed", order)
        assert isinstance(answer, Pending)
        tickets.append(answer.ticket)
    return tickets


def counted(simulator: Simulator) -> Counter[str]:
    return Counter(simulator.summary()["calls"])


def test_many_are_asked_once_each_and_the_answers_come_in_their_order(simulator: Simulator) -> None:
    tickets, before = ordered(12), counted(simulator)
    answers = list(call.poll_each("wavespeed", tickets))
    assert [answer.ticket for answer in answers if isinstance(answer, Pending)] == tickets
    assert counted(simulator) - before == {"poll": 12}


def test_an_error_is_told_of_the_one_that_it_befell(simulator: Simulator) -> None:
    tickets = ordered(6)
    tickets[4] = Ticket("nobody")
    answers = list(call.poll_each("wavespeed", tickets))
    assert [isinstance(answer, Pending) for answer in answers] == [True, True, True, True, False, True]
    error = answers[4]
    assert isinstance(error, ProviderError)
    assert error.kind == ErrorKind.NOT_FOUND


def test_a_mistake_of_ours_in_one_question_spares_the_others(simulator: Simulator) -> None:
    tickets = ordered(3)
    tickets[2] = Ticket(None)  # type: ignore[arg-type]  # the mistake
    answers = list(call.poll_each("wavespeed", tickets))
    assert [isinstance(answer, Pending) for answer in answers] == [True, True, False]
    error = answers[2]
    assert isinstance(error, ProviderError)
    assert error.kind == ErrorKind.MALFORMED


def test_a_provider_that_went_away_is_asked_by_few_of_many(simulator: Simulator) -> None:
    """The first is asked alone, and from the fifth failure on nobody is."""
    tickets = ordered(40)
    simulator.settings(dead=["wavespeed"])
    before = counted(simulator)
    answers = list(call.poll_each("wavespeed", tickets))
    assert all(isinstance(answer, ProviderError) for answer in answers)
    assert sum((counted(simulator) - before).values()) <= 6


def test_one_that_dies_while_many_are_asked_is_asked_by_eight_at_most_and_then_by_one_at_a_time(
    simulator: Simulator,
) -> None:
    tickets = ordered(40)
    answers = call.poll_each("wavespeed", tickets)
    # One, two and four: the next are eight.
    assert all(isinstance(next(answers), Pending) for _ in range(7))
    simulator.settings(dead=["wavespeed"])
    before = counted(simulator)
    assert all(isinstance(answer, ProviderError) for answer in answers)
    assert sum((counted(simulator) - before).values()) == 8


def test_an_adapter_that_can_not_ask_many_at_once_is_asked_for_one_after_the_other(
    simulator: Simulator, settings: Any
) -> None:
    settings.PROVIDERS = {"stability": {"base_url": f"{simulator.base_url}/stability", "api_key": "any"}}
    answers = list(call.poll_each("stability", [Ticket("one"), Ticket("two")]))
    assert [error.kind for error in answers if isinstance(error, ProviderError)] == [ErrorKind.NOT_FOUND] * 2


def test_a_provider_that_is_not_configured_is_asked_nothing(settings: Any) -> None:
    settings.PROVIDERS = {}
    [error] = call.poll_each("wavespeed", [Ticket("any")])
    assert isinstance(error, ProviderError)
    assert error.kind == ErrorKind.AUTHENTICATION

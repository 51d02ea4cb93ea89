"""Every call to a provider goes through `call`, which has the last word on errors and logs no secrets."""

import logging
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

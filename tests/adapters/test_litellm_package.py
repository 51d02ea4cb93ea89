"""The LiteLLM adapter with its package, against the simulator's OpenAI front end.

Not among the tests that run by default: the package is an extra, with a lock of its own. In an environment made of
requirements/litellm.txt and requirements/local.txt: `pytest -m litellm tests/adapters`.
"""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apps.providers.adapters.litellm import LiteLLM
from apps.providers.contract import GenerationRequest
from apps.providers.errors import ErrorKind, ProviderError
from tests.adapters.sync import bought, decoded, refused
from tests.fakes.receiver import Answer, Receiver
from tests.fakes.simulator import Simulator, free_port, wait_until

pytestmark = [
    pytest.mark.litellm,
    # Other people's code, with other people's warnings.
    pytest.mark.filterwarnings("default"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def adapter(simulator: Simulator) -> LiteLLM:
    return LiteLLM(f"{simulator.base_url}/openai/v1", simulator.api_key)


def ask(prompt: str = "a red fox", *, model: str = "openai/gpt-image-2", **params: Any) -> GenerationRequest:
    return GenerationRequest("attempt-1", "image", model, prompt, params)


def say(prompt: str = "Good morning.", **params: Any) -> GenerationRequest:
    return GenerationRequest(
        "attempt-1", "audio", "openai/gpt-4o-mini-tts", prompt, {"voice": "coral", **params}
    )


def test_pictures_come_with_the_answer(adapter: LiteLLM, simulator: Simulator, tmp_path: Path) -> None:
    result = bought(adapter, ask(width=64, height=32, n=2))
    assert result.ticket is None
    assert len({output.data for output in result.outputs}) == 2
    found = decoded(result.outputs[0].data, "image", "image/png", tmp_path)
    assert (found.width, found.height) == (64, 32)
    assert len(simulator.ledger()["charges"]) == 1


def test_speech_comes_as_mp3(adapter: LiteLLM, tmp_path: Path) -> None:
    result = bought(adapter, say("It takes about three seconds to say all of this."))
    found = decoded(result.outputs[0].data, "audio", "audio/mpeg", tmp_path)
    assert found.duration_s == pytest.approx(2.9, abs=0.1)


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("x [fault:500]", ErrorKind.SERVER_ERROR),
        ("x [fault:503]", ErrorKind.SERVER_ERROR),
        ("x [fault:502]", ErrorKind.AMBIGUOUS),
        ("x [fault:504]", ErrorKind.AMBIGUOUS),
        ("x [fault:401]", ErrorKind.AUTHENTICATION),
        ("x [fault:404]", ErrorKind.INVALID_REQUEST),
        ("x [fault:429=7]", ErrorKind.RATE_LIMITED),
        ("x [fault:429-quota]", ErrorKind.INSUFFICIENT_FUNDS),
        ("x [fault:refused]", ErrorKind.CONTENT_REJECTED),
        ("x [fault:reset]", ErrorKind.AMBIGUOUS),
        ("x [fault:accept-reset]", ErrorKind.AMBIGUOUS),
        ("x [fault:accept-short]", ErrorKind.AMBIGUOUS),
        ("x [fault:accept-cut]", ErrorKind.AMBIGUOUS),
        ("x [fault:empty]", ErrorKind.BAD_OUTPUT),
        (" ", ErrorKind.INVALID_REQUEST),
    ],
)
@pytest.mark.parametrize("order", [ask, say])
def test_a_submit_that_goes_wrong_has_its_kind_and_is_sent_once(
    adapter: LiteLLM, simulator: Simulator, order: Any, prompt: str, kind: ErrorKind
) -> None:
    error = refused(adapter, order(prompt))
    assert error.kind == kind, error.message
    ledger = simulator.ledger()
    assert len(ledger["submits"]) == 1
    assert not ledger["charges"] or error.policy.billed != "no"


@pytest.mark.parametrize("fault", ["accept-html", "accept-garbled"])
def test_an_answer_that_makes_no_sense_may_have_been_billed(
    adapter: LiteLLM, simulator: Simulator, fault: str
) -> None:
    error = refused(adapter, ask(f"x [fault:{fault}]"))
    assert error.policy.billed != "no", error.message
    assert len(simulator.ledger()["submits"]) == 1


def test_429_says_how_long_to_wait(adapter: LiteLLM) -> None:
    assert refused(adapter, ask("x [fault:429=7]")).retry_after_s == 7


@pytest.mark.parametrize("order", [ask, say])
def test_an_answer_that_takes_too_long_is_ambiguous_and_billed_all_the_same(
    adapter: LiteLLM, simulator: Simulator, settings: Any, order: Any
) -> None:
    settings.PROVIDER_RESULT_TIMEOUT_S = 0.3
    simulator.settings(time_scale=1)
    assert refused(adapter, order("x [time:1]")).kind == ErrorKind.AMBIGUOUS
    wait_until(lambda: simulator.ledger()["charges"])
    assert len(simulator.ledger()["submits"]) == 1


@pytest.mark.parametrize("order", [ask, say])
def test_nobody_listening_is_proven_unsent(order: Any) -> None:
    error = refused(LiteLLM(f"http://127.0.0.1:{free_port()}", "k"), order())
    assert (error.kind, error.policy.billed) == (ErrorKind.CONNECT, "no"), error.message


def test_a_picture_that_was_never_asked_for_is_no_success(adapter: LiteLLM) -> None:
    """It has no pictures of Replicate's: it answers with an empty list, and sends nothing."""
    error = refused(LiteLLM("", "k"), ask(model="replicate/black-forest-labs/flux-schnell"))
    assert error.kind in (ErrorKind.BAD_OUTPUT, ErrorKind.AMBIGUOUS, ErrorKind.INVALID_REQUEST)


@pytest.mark.parametrize(
    ("model", "usage", "costs"),
    [
        ("openai/gpt-image-1.5", {"input_tokens": 10, "output_tokens": 1000, "total_tokens": 1010}, True),
        ("openai/gpt-image-1.5", None, False),
        ("openai/nobody-knows-it", None, False),
    ],
)
def test_a_cost_is_said_only_where_it_is_known(
    odd_provider: Receiver, model: str, usage: dict[str, Any] | None, costs: bool
) -> None:
    details = {"input_tokens_details": {"image_tokens": 0, "text_tokens": 10}}
    body: dict[str, Any] = {
        "created": 1,
        "data": [{"b64_json": "aGFsbG8="}],
        "size": "1024x1024",
        "quality": "low",
    }
    if usage:
        body["usage"] = {**usage, **details}
    odd_provider.answers(Answer(body=json.dumps(body).encode(), headers={"content-type": "application/json"}))
    result = bought(LiteLLM(odd_provider.url, "k"), ask(model=model, width=1024, height=1024))
    assert isinstance(result.reported_cost_usd, Decimal) == costs
    assert result.reported_cost_usd is None or result.reported_cost_usd > 0


def test_a_ping_is_free_and_fails_with_a_wrong_key(adapter: LiteLLM, simulator: Simulator) -> None:
    adapter.ping()
    LiteLLM("", "k").ping()
    with pytest.raises(ProviderError) as caught:
        LiteLLM(adapter.base_url, "wrong").ping()
    assert caught.value.kind == ErrorKind.AUTHENTICATION
    assert simulator.ledger()["submits"] == []

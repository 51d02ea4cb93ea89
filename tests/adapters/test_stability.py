"""The Stability adapter against the simulator: what it sends, and what it makes of the answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from apps.providers.adapters.stability import Stability
from apps.providers.contract import Change, GenerationRequest
from apps.providers.errors import ErrorKind
from apps.simulator import forms
from tests.adapters.sync import bought, decoded, refused, unfit
from tests.fakes.receiver import Answer, Receiver
from tests.fakes.simulator import Simulator, wait_until

PICTURE = Answer(body=b"a picture", headers={"finish-reason": "SUCCESS", "seed": "7"})


@pytest.fixture
def adapter(simulator: Simulator) -> Stability:
    return Stability(f"{simulator.base_url}/stability", simulator.api_key)


def ask(prompt: str = "a red fox", *, model: str = "core", **params: Any) -> GenerationRequest:
    return GenerationRequest("attempt-1", "image", model, prompt, params)


def sent(provider: Receiver) -> dict[str, str]:
    (request,) = provider.requests
    fields = forms.fields(request.headers["content-type"], request.body)
    return {name: content.decode() for name, content in fields.items()}


@pytest.mark.parametrize("model", ["core", "ultra", "sd3.5-large"])
def test_the_picture_comes_with_the_answer(
    adapter: Stability, simulator: Simulator, tmp_path: Path, model: str
) -> None:
    result = bought(adapter, ask(model=model, aspect_ratio="16:9", seed=5))
    assert result.ticket is None
    found = decoded(result.outputs[0].data, "image", "image/png", tmp_path)
    assert (found.width, found.height) == (1344, 768)
    assert len(simulator.ledger()["charges"]) == 1


def test_a_picture_is_asked_for_in_the_providers_words(odd_provider: Receiver) -> None:
    odd_provider.answers(PICTURE)
    request = ask(
        "Füchse \r\n--x", model="sd3.5-large", width=1344, height=576, seed=7, negative_prompt="rain", n=1
    )
    assert bought(Stability(odd_provider.url, "the-key"), request).outputs[0].data == b"a picture"
    (received,) = odd_provider.requests
    assert received.path == "/v2beta/stable-image/generate/sd3"
    assert (received.headers["authorization"], received.headers["accept"]) == ("Bearer the-key", "image/*")
    assert sent(odd_provider) == {
        "prompt": "Füchse \r\n--x",
        "model": "sd3.5-large",
        "aspect_ratio": "21:9",
        "seed": "7",
        "negative_prompt": "rain",
        "output_format": "png",
    }


def test_a_size_becomes_a_shape_and_that_is_said() -> None:
    fitted = Stability("", "k").fit(ask(width=1920, height=1080))
    assert fitted.request.params == {"aspect_ratio": "16:9"}
    assert fitted.changes == (Change("width", 1920), Change("height", 1080))


def test_a_seed_of_zero_would_be_any_and_is_sent_as_another(odd_provider: Receiver) -> None:
    odd_provider.answers(PICTURE)
    adapter = Stability(odd_provider.url, "k")
    assert adapter.fit(ask(seed=0)).changes == (Change("seed", 0, 4_294_967_294),)
    assert adapter.fit(ask(seed=2**31 - 1)).changes == ()
    bought(adapter, ask(seed=0))
    assert sent(odd_provider)["seed"] == "4294967294"


def test_what_it_does_not_know_is_dropped_and_said() -> None:
    fitted = Stability("", "k").fit(ask(voice="aria", n=1))
    assert (fitted.request.params, fitted.changes) == ({}, (Change("voice", "aria"),))


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest("a", "audio", "core", "x"),
        ask(model="sdxl"),
        ask(n=2),
        ask(height=1024),
        ask(width=1000, height=999),
        ask(aspect_ratio="4:3"),
        ask("x" * 10_001),
    ],
)
def test_what_it_cannot_make_is_refused_before_anything_is_sent(request_: GenerationRequest) -> None:
    assert unfit(Stability("", "k"), request_) == ErrorKind.UNSUPPORTED


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("x [fault:500]", ErrorKind.SERVER_ERROR),
        ("x [fault:failed]", ErrorKind.SERVER_ERROR),
        ("x [fault:429=7]", ErrorKind.RATE_LIMITED),
        ("x [fault:429-quota]", ErrorKind.INSUFFICIENT_FUNDS),
        ("x [fault:refused]", ErrorKind.CONTENT_REJECTED),
        ("x [fault:reset]", ErrorKind.AMBIGUOUS),
        ("x [fault:accept-reset]", ErrorKind.AMBIGUOUS),
        ("x [fault:nsfw]", ErrorKind.CONTENT_REJECTED),
        (" ", ErrorKind.INVALID_REQUEST),
    ],
)
def test_a_refused_submit_has_its_kind(adapter: Stability, prompt: str, kind: ErrorKind) -> None:
    assert refused(adapter, ask(prompt)).kind == kind


def test_a_filtered_picture_is_a_success_to_the_provider_and_none_to_us(
    adapter: Stability, simulator: Simulator
) -> None:
    error = refused(adapter, ask("x [fault:nsfw]"))
    assert (error.kind, error.policy.billed) == (ErrorKind.CONTENT_REJECTED, "no")
    ledger = simulator.ledger()
    assert [submit["outcome"] for submit in ledger["submits"]] == ["200"]
    assert ledger["charges"] == []


@pytest.mark.parametrize("fault", ["500", "429", "reset", "accept-reset", "hang", "failed"])
@pytest.mark.usefixtures("impatient")
def test_a_submit_is_sent_once_whatever_happens(adapter: Stability, simulator: Simulator, fault: str) -> None:
    refused(adapter, ask(f"x [fault:{fault}]"))
    assert len(simulator.ledger()["submits"]) == 1


@pytest.mark.usefixtures("impatient")
def test_a_picture_that_takes_too_long_is_ambiguous_and_billed_all_the_same(
    adapter: Stability, simulator: Simulator
) -> None:
    simulator.settings(time_scale=1)
    assert refused(adapter, ask("x [time:0.4]")).kind == ErrorKind.AMBIGUOUS
    wait_until(lambda: simulator.ledger()["charges"])


def error(status: int, name: str, *errors: str) -> Answer:
    return Answer(status=status, body=json.dumps({"id": "1", "name": name, "errors": errors}).encode())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(400, "bad_request", "aspect_ratio: no"), ErrorKind.INVALID_REQUEST),
        (error(401, "unauthorized"), ErrorKind.AUTHENTICATION),
        (error(402, "payment_required"), ErrorKind.INSUFFICIENT_FUNDS),
        (error(403, "content_moderation"), ErrorKind.CONTENT_REJECTED),
        (
            error(403, "forbidden", "Your request was flagged by our content moderation system"),
            ErrorKind.CONTENT_REJECTED,
        ),
        (error(403, "forbidden"), ErrorKind.AUTHENTICATION),
        (error(422, "unprocessable_entity"), ErrorKind.INVALID_REQUEST),
        (error(429, "rate_limit_exceeded"), ErrorKind.RATE_LIMITED),
        (error(500, "internal_error"), ErrorKind.SERVER_ERROR),
        (Answer(status=502, body=b"<html>nginx</html>"), ErrorKind.AMBIGUOUS),
        (Answer(status=504), ErrorKind.AMBIGUOUS),
        # The asynchronous services' word for "not ready": not one that we asked for.
        (Answer(status=202), ErrorKind.MALFORMED),
        (Answer(body=b"x", headers={"finish-reason": "CONTENT_FILTERED"}), ErrorKind.CONTENT_REJECTED),
        (Answer(body=b"x", headers={"finish-reason": "TIRED"}), ErrorKind.BAD_OUTPUT),
        (Answer(headers={"finish-reason": "SUCCESS"}), ErrorKind.BAD_OUTPUT),
        (Answer(body=b"half a picture", length=500), ErrorKind.AMBIGUOUS),
    ],
)
def test_a_strange_answer_has_its_kind(odd_provider: Receiver, answer: Answer, kind: ErrorKind) -> None:
    odd_provider.answers(answer)
    assert refused(Stability(odd_provider.url, "k"), ask()).kind == kind
    assert len(odd_provider.requests) == 1

"""The OpenAI adapter against the simulator: what it sends, and what it makes of the answers."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from apps.providers import http
from apps.providers.adapters.openai import OpenAI
from apps.providers.contract import Change, GenerationRequest
from apps.providers.errors import ErrorKind
from tests.adapters.sync import bought, decoded, refused, unfit
from tests.fakes.receiver import Answer, Receiver
from tests.fakes.simulator import Simulator, wait_until

PNG = base64.b64encode(b"a picture").decode()


@pytest.fixture
def adapter(simulator: Simulator) -> OpenAI:
    return OpenAI(f"{simulator.base_url}/openai/v1", simulator.api_key)


def ask(prompt: str = "a red fox", *, model: str = "gpt-image-2", **params: Any) -> GenerationRequest:
    return GenerationRequest("attempt-1", "image", model, prompt, params)


def say(prompt: str = "Good morning.", *, model: str = "gpt-4o-mini-tts", **params: Any) -> GenerationRequest:
    return GenerationRequest("attempt-1", "audio", model, prompt, params)


def test_pictures_come_with_the_answer(adapter: OpenAI, simulator: Simulator, tmp_path: Path) -> None:
    result = bought(adapter, ask("a red fox [time:10]", width=64, height=32, n=2))
    assert result.ticket is None
    assert len({output.data for output in result.outputs}) == 2
    found = decoded(result.outputs[0].data, "image", "image/png", tmp_path)
    assert (found.width, found.height) == (64, 32)
    assert result.inference_ms == 100
    assert result.reported_cost_usd is None
    assert [charge["amount_usd"] for charge in simulator.ledger()["charges"]] == ["0.050"]


def test_speech_comes_as_mp3(adapter: OpenAI, tmp_path: Path) -> None:
    result = bought(adapter, say("It takes about three seconds to say all of this.", voice="echo"))
    found = decoded(result.outputs[0].data, "audio", "audio/mpeg", tmp_path)
    assert found.duration_s == pytest.approx(2.9, abs=0.1)


def test_a_picture_is_asked_for_in_the_providers_words(odd_provider: Receiver) -> None:
    odd_provider.answers(Answer(body=json.dumps({"data": [{"b64_json": PNG}]}).encode()))
    request = ask(
        "x", model="gpt-image-1.5@medium", width=1536, height=1024, n=3, seed=7, negative_prompt="y"
    )
    result = bought(OpenAI(f"{odd_provider.url}/v1", "the-key"), request)
    assert result.outputs[0].data == b"a picture"
    (sent,) = odd_provider.requests
    assert (sent.method, sent.path) == ("POST", "/v1/images/generations")
    assert sent.headers["authorization"] == "Bearer the-key"
    assert json.loads(sent.body) == {
        "model": "gpt-image-1.5",
        "prompt": "x",
        "n": 3,
        "size": "1536x1024",
        "quality": "medium",
    }


def test_a_request_without_a_size_leaves_it_to_the_model(odd_provider: Receiver) -> None:
    odd_provider.answers(Answer(body=json.dumps({"data": [{"b64_json": PNG}]}).encode()))
    bought(OpenAI(odd_provider.url, "k"), ask("x"))
    assert json.loads(odd_provider.requests[0].body) == {"model": "gpt-image-2", "prompt": "x", "n": 1}


def test_speech_is_asked_for_in_the_providers_words(odd_provider: Receiver) -> None:
    odd_provider.answers(Answer(body=b"sound"))
    bought(OpenAI(odd_provider.url, "k"), say("Hello", model="tts-1", voice="liam", seed=4))
    assert json.loads(odd_provider.requests[0].body) == {
        "model": "tts-1",
        "input": "Hello",
        "voice": "onyx",
        "response_format": "mp3",
    }


def test_an_address_instead_of_a_picture_is_taken_as_one(odd_provider: Receiver) -> None:
    url = "https://cdn.example/x.png"
    odd_provider.answers(Answer(body=json.dumps({"data": [{"url": url}]}).encode()))
    assert bought(OpenAI(odd_provider.url, "k"), ask()).outputs[0].url == url


def test_what_a_picture_cannot_be_told_is_dropped_and_said() -> None:
    fitted = OpenAI("", "k").fit(
        ask(width=1024, height=1024, n=1, seed=3, negative_prompt="rain", resolution=None)
    )
    assert fitted.request.params == {"width": 1024, "height": 1024, "n": 1}
    assert fitted.changes == (Change("seed", 3), Change("negative_prompt", "rain"))


@pytest.mark.parametrize(("asked", "sent"), [("aria", "nova"), ("noor", "shimmer")])
def test_a_voice_it_does_not_have_is_spoken_by_the_nearest_and_said(asked: str, sent: str) -> None:
    fitted = OpenAI("", "k").fit(say(voice=asked))
    assert fitted.request.params == {"voice": sent}
    assert fitted.changes == (Change("voice", asked, sent),)


def test_what_it_can_do_goes_unchanged() -> None:
    fitted = OpenAI("", "k").fit(say(voice="coral", n=1))
    assert (fitted.request.params, fitted.changes) == ({"voice": "coral"}, ())


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest("a", "video", "sora-2", "x"),
        ask(n=11),
        ask(width=1024),
        ask(width=1000, height=1000),
        ask(width=4096, height=2048),
        ask(width=3840, height=3840),
        ask(width=1600, height=512),
        ask(model="gpt-image-1.5", width=1536, height=864),
        say(n=2),
        say(duration_s=5),
        say(voice="nobody"),
        say("x" * 4097),
    ],
)
def test_what_it_cannot_make_is_refused_before_anything_is_sent(request_: GenerationRequest) -> None:
    assert unfit(OpenAI("", "k"), request_) == ErrorKind.UNSUPPORTED


@pytest.mark.parametrize(
    ("width", "height"), [(1536, 864), (864, 1536), (1024, 1024), (3840, 2160), (1536, 512)]
)
def test_every_size_it_fits_is_one_the_provider_takes(
    adapter: OpenAI, simulator: Simulator, width: int, height: int
) -> None:
    simulator.settings(drawing="tiny")
    assert len(bought(adapter, ask(width=width, height=height)).outputs) == 1


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
@pytest.mark.parametrize("order", [ask, say])
def test_a_refused_submit_has_its_kind(adapter: OpenAI, order: Any, prompt: str, kind: ErrorKind) -> None:
    assert refused(adapter, order(prompt)).kind == kind


def test_a_retired_model_is_an_invalid_request(adapter: OpenAI) -> None:
    assert refused(adapter, ask(model="dall-e-3")).kind == ErrorKind.INVALID_REQUEST


def test_what_moderation_stops_is_not_billed(adapter: OpenAI, simulator: Simulator) -> None:
    refused(adapter, ask("x [fault:nsfw]"))
    assert simulator.ledger()["charges"] == []


def test_429_says_how_long_to_wait(adapter: OpenAI) -> None:
    assert refused(adapter, ask("x [fault:429=7]")).retry_after_s == 7


@pytest.mark.parametrize("fault", ["500", "429", "reset", "accept-reset", "hang", "failed"])
@pytest.mark.usefixtures("impatient")
def test_a_submit_is_sent_once_whatever_happens(adapter: OpenAI, simulator: Simulator, fault: str) -> None:
    refused(adapter, ask(f"x [fault:{fault}]"))
    assert len(simulator.ledger()["submits"]) == 1


@pytest.mark.usefixtures("impatient")
def test_a_picture_that_takes_too_long_is_ambiguous_and_billed_all_the_same(
    adapter: OpenAI, simulator: Simulator
) -> None:
    simulator.settings(time_scale=1)
    assert refused(adapter, ask("x [time:0.4]")).kind == ErrorKind.AMBIGUOUS
    wait_until(lambda: simulator.ledger()["charges"])


def test_a_slow_picture_is_waited_for_longer_than_any_other_answer(
    adapter: OpenAI, simulator: Simulator, settings: Any
) -> None:
    settings.PROVIDER_READ_TIMEOUT_S = 0.1
    simulator.settings(time_scale=1)
    assert bought(adapter, ask("x [time:0.5]", width=64, height=64)).inference_ms == 500


def error(status: int, code: str | None, message: str = "no", kind: str = "x") -> Answer:
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Answer(status=status, body=json.dumps(body).encode())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(400, "moderation_blocked"), ErrorKind.CONTENT_REJECTED),
        (error(400, None, "rejected as a result of our safety system"), ErrorKind.CONTENT_REJECTED),
        (error(400, "billing_hard_limit_reached"), ErrorKind.INSUFFICIENT_FUNDS),
        (error(400, "invalid_value"), ErrorKind.INVALID_REQUEST),
        (error(401, "invalid_api_key"), ErrorKind.AUTHENTICATION),
        (error(404, "model_not_found"), ErrorKind.INVALID_REQUEST),
        (error(429, "rate_limit_exceeded"), ErrorKind.RATE_LIMITED),
        (error(429, "insufficient_quota"), ErrorKind.INSUFFICIENT_FUNDS),
        (error(429, None, kind="insufficient_quota"), ErrorKind.INSUFFICIENT_FUNDS),
        (error(500, None), ErrorKind.SERVER_ERROR),
        (Answer(status=502, body=b"<html>nginx</html>"), ErrorKind.AMBIGUOUS),
        (Answer(status=503), ErrorKind.SERVER_ERROR),
        (Answer(status=504), ErrorKind.AMBIGUOUS),
        (Answer(status=524), ErrorKind.AMBIGUOUS),
        (Answer(status=400, body=b'{"error":"a text"}'), ErrorKind.INVALID_REQUEST),
        (Answer(status=302, headers={"Location": "http://127.0.0.1:1/"}), ErrorKind.MALFORMED),
        (Answer(body=b"<html>"), ErrorKind.MALFORMED),
        (Answer(body=b"{}"), ErrorKind.MALFORMED),
        (Answer(body=b'{"data":{}}'), ErrorKind.MALFORMED),
        (Answer(body=b'{"data":[{"b64_json":"aGFs', length=500), ErrorKind.AMBIGUOUS),
        (Answer(body=b'{"data":[]}'), ErrorKind.BAD_OUTPUT),
        (Answer(body=b'{"data":[null]}'), ErrorKind.BAD_OUTPUT),
        (Answer(body=b'{"data":[{"b64_json":"%%%"}]}'), ErrorKind.BAD_OUTPUT),
        (Answer(body=b'{"data":[{"b64_json":3}]}'), ErrorKind.BAD_OUTPUT),
        (Answer(body=b'{"data":[{"url":"file:///etc/passwd"}]}'), ErrorKind.BAD_OUTPUT),
    ],
)
def test_a_strange_answer_has_its_kind(odd_provider: Receiver, answer: Answer, kind: ErrorKind) -> None:
    odd_provider.answers(answer)
    assert refused(OpenAI(odd_provider.url, "k"), ask()).kind == kind
    assert len(odd_provider.requests) == 1


def test_an_empty_sound_is_no_output(odd_provider: Receiver) -> None:
    assert refused(OpenAI(odd_provider.url, "k"), say()).kind == ErrorKind.BAD_OUTPUT


def test_an_answer_may_be_large_but_not_without_bound(odd_provider: Receiver, monkeypatch: Any) -> None:
    large = json.dumps({"data": [{"b64_json": PNG}], "padding": " " * http.MAX_BYTES}).encode()
    odd_provider.answers(Answer(body=large), Answer(body=large))
    adapter = OpenAI(odd_provider.url, "k")
    assert bought(adapter, ask()).outputs[0].data == b"a picture"
    monkeypatch.setattr(http, "MAX_RESULT_BYTES", http.MAX_BYTES)
    assert refused(adapter, ask()).kind == ErrorKind.MALFORMED


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_drips_is_cut_off(odd_provider: Receiver) -> None:
    def drip() -> Any:
        while not odd_provider.closing.wait(0.05):
            yield b" "

    odd_provider.answers(Answer(chunks=drip()))
    assert refused(OpenAI(odd_provider.url, "k"), ask()).kind == ErrorKind.AMBIGUOUS

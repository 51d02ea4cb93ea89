"""The official `openai` package, unmodified, against the simulator: it speaks the provider's protocol, not ours."""

import base64
import io
from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI
from PIL import Image

from tests.fakes.simulator import Simulator, wait_until


@pytest.fixture
def client(simulator: Simulator) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{simulator.base_url}/openai/v1", api_key=simulator.api_key) as opened:
        yield opened


def test_pictures_come_as_base64_with_their_usage(client: OpenAI) -> None:
    answer = client.images.generate(model="gpt-image-2", prompt="a red fox", n=2, size="64x32", quality="low")
    assert answer.data is not None
    pictures = [Image.open(io.BytesIO(base64.b64decode(one.b64_json or ""))) for one in answer.data]
    assert [picture.size for picture in pictures] == [(64, 32), (64, 32)]
    assert (answer.quality, answer.size, answer.output_format) == ("low", "64x32", "png")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


@pytest.mark.parametrize(("form", "start"), [("mp3", b"ID3"), ("wav", b"RIFF")])
def test_speech_comes_as_bytes(client: OpenAI, form: str, start: bytes) -> None:
    answer = client.audio.speech.create(
        model="gpt-4o-mini-tts",
        voice="coral",
        input="Good morning.",
        response_format=form,  # type: ignore[arg-type]  # one of the literals
    )
    assert answer.read().startswith(start)


def test_the_models_are_listed_and_looked_up(client: OpenAI) -> None:
    assert "gpt-image-2" in {model.id for model in client.models.list()}
    assert client.models.retrieve("tts-1").object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("dall-e-3")
    assert caught.value.code == "model_not_found"


def test_a_wrong_key_is_an_authentication_error(simulator: Simulator) -> None:
    with (
        OpenAI(base_url=f"{simulator.base_url}/openai/v1", api_key="wrong") as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"size": "1000x1000"}, "size"),
        ({"extra_body": {"seed": 7}}, "seed"),
        ({"response_format": "url"}, "response_format"),
    ],
)
def test_what_the_api_does_not_take_is_a_bad_request_that_names_it(
    client: OpenAI, arguments: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model="gpt-image-2", prompt="x", **arguments)  # type: ignore[call-overload]  # any
    assert caught.value.param == param


def test_moderation_says_so(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model="gpt-image-2", prompt="x [fault:nsfw]")
    assert caught.value.code == "moderation_blocked"
    assert caught.value.request_id


def test_an_account_without_funds_is_not_asked_again(client: OpenAI, simulator: Simulator) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        client.images.generate(model="gpt-image-2", prompt="x [fault:429-quota]")
    assert caught.value.code == "insufficient_quota"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(simulator.ledger()["submits"]) == 1


@pytest.mark.parametrize("fault", ["500", "429=0.01", "accept-reset"])
def test_the_client_sends_a_failed_post_again_unless_it_is_told_not_to(
    client: OpenAI, simulator: Simulator, fault: str
) -> None:
    prompt = f"x [fault:{fault}]"
    with pytest.raises(openai.APIError):
        client.images.generate(model="gpt-image-2", prompt=prompt)
    assert len(simulator.ledger()["submits"]) == 3
    simulator.reset()
    with pytest.raises(openai.APIError):
        client.with_options(max_retries=0).images.generate(model="gpt-image-2", prompt=prompt)
    assert len(simulator.ledger()["submits"]) == 1


def test_three_lost_answers_are_three_charges(client: OpenAI, simulator: Simulator) -> None:
    with pytest.raises(openai.APIConnectionError):
        client.images.generate(model="gpt-image-2", prompt="x [fault:accept-reset]")
    wait_until(lambda: len(simulator.ledger()["charges"]) == 3)


def test_a_retry_that_succeeds_has_been_bought_once(client: OpenAI, simulator: Simulator) -> None:
    answer = client.images.generate(model="gpt-image-2", prompt="x [fault:500*2]", size="64x64")
    assert answer.data
    assert [submit["outcome"] for submit in simulator.ledger()["submits"]] == ["500", "500", "accepted"]
    assert len(simulator.ledger()["charges"]) == 1

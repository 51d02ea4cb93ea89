"""What is Replicate's own: its words, its addresses, and answers that no simulator gives. The rest is the suite's."""

import json
from functools import partial
from typing import Any

import pytest

from apps.providers.adapters.replicate import Replicate
from apps.providers.contract import GenerationRequest, Pending, Result, Ticket
from apps.providers.errors import ErrorKind, WebhookRejected
from tests.adapters.contract import bought, error_of
from tests.fakes.receiver import Answer, Receiver
from tests.fakes.simulator import Simulator, wait_until

MODEL = "black-forest-labs/fast-draft"


def ask(model: str = MODEL, kind: str = "image", **params: Any) -> GenerationRequest:
    return GenerationRequest("attempt-1", kind, model, "a red fox", params, "https://us.example/hook")


def prediction(**fields: Any) -> Answer:
    body = {"id": "p1", "status": "starting", "output": None, "logs": "", "error": None, **fields}
    return Answer(status=201, body=json.dumps(body).encode())


def adapter(provider: Receiver) -> Replicate:
    return Replicate(provider.url, "the-key", "")


@pytest.mark.parametrize(
    ("request_", "path", "body"),
    [
        (
            ask(width=512, height=256, n=2, seed=7, negative_prompt="hens"),
            f"/v1/models/{MODEL}/predictions",
            {
                "input": {
                    "prompt": "a red fox",
                    "width": 512,
                    "height": 256,
                    "num_outputs": 2,
                    "seed": 7,
                    "negative_prompt": "hens",
                }
            },
        ),
        (
            ask("minimax/video-01", "video", duration_s=5.0, resolution="720p", aspect_ratio="16:9"),
            "/v1/models/minimax/video-01/predictions",
            {
                "input": {
                    "prompt": "a red fox",
                    "duration": 5,
                    "resolution": "720p",
                    "aspect_ratio": "16:9",
                }
            },
        ),
        (
            ask("owner/name:5c7d5dc6", "audio", voice="aria"),
            "/v1/predictions",
            {"input": {"text": "a red fox", "voice_id": "aria"}, "version": "5c7d5dc6"},
        ),
    ],
    ids=["image", "video", "audio by version"],
)
def test_parameters_are_sent_in_the_providers_words(
    odd_provider: Receiver, request_: GenerationRequest, path: str, body: dict[str, Any]
) -> None:
    odd_provider.answers(prediction())
    adapter(odd_provider).submit(request_)
    (sent,) = odd_provider.requests
    assert (sent.method, sent.path) == ("POST", path)
    assert sent.headers["authorization"] == "Bearer the-key"
    assert "prefer" not in sent.headers
    told = {"webhook": "https://us.example/hook", "webhook_events_filter": ["completed"]}
    assert json.loads(sent.body) == body | told


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(status=422, body=b'{"detail":"- input.prompt: required"}'), ErrorKind.INVALID_REQUEST),
        (Answer(status=402, body=b'{"title":"Insufficient credit"}'), ErrorKind.INSUFFICIENT_FUNDS),
        (Answer(status=302, headers={"Location": "http://127.0.0.1:1/"}), ErrorKind.MALFORMED),
        (Answer(status=201, body=b'{"status":"starting"}'), ErrorKind.MALFORMED),
        (Answer(status=201, body=b'{"id":""}'), ErrorKind.MALFORMED),
        (prediction(status="succeeded", output=["file:///etc/passwd"]), ErrorKind.BAD_OUTPUT),
        (prediction(status="succeeded", output={"url": "https://x"}), ErrorKind.BAD_OUTPUT),
        (prediction(status="failed", error="CUDA out of memory"), ErrorKind.GENERATION_FAILED),
        (prediction(status="aborted"), ErrorKind.CANCELED),
    ],
)
def test_a_strange_answer_has_its_kind(odd_provider: Receiver, answer: Answer, kind: ErrorKind) -> None:
    odd_provider.answers(answer)
    assert error_of(lambda: adapter(odd_provider).submit(ask())).kind == kind
    assert len(odd_provider.requests) == 1


def test_one_address_is_one_output(odd_provider: Receiver) -> None:
    odd_provider.answers(
        prediction(status="succeeded", output="https://x/1.mp4", metrics={"predict_time": 1.25})
    )
    result = adapter(odd_provider).submit(ask())
    assert isinstance(result, Result)
    assert [output.url for output in result.outputs] == ["https://x/1.mp4"]
    assert result.inference_ms == 1250
    assert result.reported_cost_usd is None


def test_progress_is_read_from_the_bars_in_the_log(odd_provider: Receiver) -> None:
    odd_provider.answers(prediction(status="processing", logs="loading\n 10%|# | 1/10\n 40%|#### | 4/10\n"))
    assert adapter(odd_provider).poll(Ticket("p1")) == Pending(Ticket("p1"), "generating", 0.4)


def test_the_answer_about_another_prediction_is_malformed(odd_provider: Receiver) -> None:
    odd_provider.answers(prediction(status="succeeded", output=["https://x/1.png"]))
    error = error_of(lambda: adapter(odd_provider).poll(Ticket("p2")))
    assert error.kind == ErrorKind.MALFORMED


def test_only_what_never_started_is_taken_for_unbilled(simulator: Simulator) -> None:
    simulator.settings(time_scale=1, concurrency=1)
    replicate = Replicate(f"{simulator.base_url}/replicate", simulator.api_key, "")
    running = bought(replicate, GenerationRequest("a", "image", MODEL, "first [time:30]"))
    waiting = bought(replicate, GenerationRequest("b", "image", MODEL, "second [time:30]"))
    assert [replicate.cancel(waiting), replicate.cancel(running)] == [True, False]
    charged = wait_until(lambda: simulator.ledger()["charges"])
    assert [row["task_id"] for row in charged] == [running.task_id]
    for ticket in (waiting, running):
        assert error_of(partial(replicate.poll, ticket)).kind == ErrorKind.CANCELED


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_x"])
def test_without_a_usable_secret_no_webhook_is_taken(simulator: Simulator, secret: str) -> None:
    headers = {"webhook-id": "w", "webhook-timestamp": "1", "webhook-signature": "v1,x"}
    with pytest.raises(WebhookRejected):
        Replicate(simulator.base_url, "k", secret).parse_webhook(b'{"id":"p1"}', headers)

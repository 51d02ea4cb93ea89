"""What is fal's own: its words, its addresses, how it fails, and its keys. The rest is the suite's."""

import json
from typing import Any

import pytest

from apps.providers.adapters.fal import Fal
from apps.providers.contract import GenerationRequest, Pending, Result, Ticket
from apps.providers.errors import ErrorKind
from tests.adapters.contract import error_of
from tests.fakes.receiver import Answer, Receiver

MODEL = "fal-ai/flux/schnell"
TICKET = Ticket("r1", {"model": MODEL})
DONE = Answer(body=b'{"status":"COMPLETED","logs":null,"metrics":{"inference_time":1.25}}')


def ask(model: str = MODEL, kind: str = "image", **params: Any) -> GenerationRequest:
    return GenerationRequest("attempt-1", kind, model, "a red fox", params, "https://us.example/hook?a=1")


def adapter(provider: Receiver) -> Fal:
    return Fal(provider.url, "the-key", f"{provider.url}/jwks.json", "low")


def answer(body: object, status: int = 200, **headers: str) -> Answer:
    return Answer(status=status, body=json.dumps(body).encode(), headers=headers)


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (
            ask(width=512, height=256, n=2, seed=7),
            {"prompt": "a red fox", "image_size": {"width": 512, "height": 256}, "num_images": 2, "seed": 7},
        ),
        (
            ask("fal-ai/kling-video/v1/standard", "video", duration_s=5.0, aspect_ratio="16:9"),
            {"prompt": "a red fox", "duration": "5", "aspect_ratio": "16:9"},
        ),
        (ask("fal-ai/some-speech", "audio", voice="aria"), {"text": "a red fox", "voice": "aria"}),
    ],
    ids=["image", "video", "audio"],
)
def test_parameters_are_sent_in_the_providers_words(
    odd_provider: Receiver, request_: GenerationRequest, body: dict[str, Any]
) -> None:
    odd_provider.answers(answer({"request_id": "r1", "status": "IN_QUEUE"}))
    pending = adapter(odd_provider).submit(request_)
    assert pending == Pending(Ticket("r1", {"model": request_.model}), "submitted")
    (sent,) = odd_provider.requests
    assert sent.path == f"/{request_.model}?fal_webhook=https%3A%2F%2Fus.example%2Fhook%3Fa%3D1"
    assert sent.headers["authorization"] == "Key the-key"
    assert sent.headers["x-fal-queue-priority"] == "low"
    assert json.loads(sent.body) == body


@pytest.mark.parametrize(
    ("model", "app"),
    [
        ("fal-ai/flux/schnell", "fal-ai/flux"),
        ("fal-ai/flux", "fal-ai/flux"),
        ("workflows/me/mine/sub", "workflows/me/mine"),
    ],
)
def test_a_request_is_asked_for_at_its_app(odd_provider: Receiver, model: str, app: str) -> None:
    odd_provider.answers(answer({"status": "IN_PROGRESS"}))
    adapter(odd_provider).poll(Ticket("r1", {"model": model}))
    assert odd_provider.requests[0].path == f"/{app}/requests/r1/status"


def test_an_address_that_an_answer_names_is_never_called(odd_provider: Receiver) -> None:
    """Who could change an answer would have us send our key anywhere."""
    with Receiver() as elsewhere:
        named = dict.fromkeys(("status_url", "response_url", "cancel_url"), f"{elsewhere.url}/x")
        odd_provider.answers(
            answer({"request_id": "r1", **named}),
            answer({"status": "COMPLETED", "logs": None, **named}),
            answer({"images": [{"url": "https://x/1.png"}]}),
            answer({"status": "ALREADY_COMPLETED"}, 400),
        )
        fal = adapter(odd_provider)
        pending = fal.submit(ask())
        assert isinstance(pending, Pending)
        assert isinstance(fal.poll(pending.ticket), Result)
        assert fal.cancel(pending.ticket) is False
        assert elsewhere.requests == []
    assert [request.path for request in odd_provider.requests[1:]] == [
        "/fal-ai/flux/requests/r1/status",
        "/fal-ai/flux/requests/r1",
        "/fal-ai/flux/requests/r1/cancel",
    ]


@pytest.mark.parametrize(
    ("result", "urls"),
    [
        ({"images": [{"url": "https://x/1.png"}, {"url": "https://x/2.png"}]}, ["1.png", "2.png"]),
        ({"image": {"url": "https://x/1.png"}}, ["1.png"]),
        ({"video": {"url": "https://x/1.mp4"}}, ["1.mp4"]),
        ({"audio": {"url": "https://x/1.mp3"}}, ["1.mp3"]),
        ({"audio_file": {"url": "https://x/1.wav"}}, ["1.wav"]),
    ],
)
def test_outputs_are_found_wherever_an_app_puts_them(
    odd_provider: Receiver, result: dict[str, Any], urls: list[str]
) -> None:
    odd_provider.answers(DONE, answer(result))
    done = adapter(odd_provider).poll(TICKET)
    assert isinstance(done, Result)
    assert [output.url for output in done.outputs] == [f"https://x/{url}" for url in urls]
    assert done.inference_ms == 1250


@pytest.mark.parametrize(
    "result",
    [{}, {"images": []}, {"images": "x"}, {"images": [{"url": "file:///etc/passwd"}]}, {"video": {}}],
)
def test_a_result_without_files_is_a_bad_output(odd_provider: Receiver, result: dict[str, Any]) -> None:
    odd_provider.answers(DONE, answer(result))
    assert error_of(lambda: adapter(odd_provider).poll(TICKET)).kind == ErrorKind.BAD_OUTPUT


_POLICY = [{"loc": ["body", "prompt"], "msg": "flagged", "type": "content_policy_violation"}]


@pytest.mark.parametrize(
    ("answers_", "kind", "is_end"),
    [
        ([answer({"status": "COMPLETED", "error": "boom"})], ErrorKind.GENERATION_FAILED, True),
        (
            [answer({"status": "COMPLETED", "error": "gone", "error_type": "client_cancelled"})],
            ErrorKind.CANCELED,
            True,
        ),
        ([DONE, answer({"detail": _POLICY}, 422)], ErrorKind.CONTENT_REJECTED, True),
        ([DONE, answer({"detail": "bad size"}, 422)], ErrorKind.GENERATION_FAILED, True),
        (
            [DONE, answer({"detail": "crashed"}, 500, **{"X-Fal-Error-Type": "internal_error"})],
            ErrorKind.GENERATION_FAILED,
            True,
        ),
        # Without the type it is the queue that fails, not the generation.
        ([DONE, answer({"detail": "crashed"}, 500)], ErrorKind.SERVER_ERROR, False),
        ([DONE, Answer(status=502, body=b"<html>nginx</html>")], ErrorKind.AMBIGUOUS, False),
        ([DONE, answer({"detail": "gone"}, 404)], ErrorKind.NOT_FOUND, False),
        ([DONE, answer({"detail": "slow down"}, 429)], ErrorKind.RATE_LIMITED, False),
        ([answer({"detail": "no key"}, 401)], ErrorKind.AUTHENTICATION, False),
        ([answer({"status": "IN_QUEUE", "request_id": "r2"})], ErrorKind.MALFORMED, False),
    ],
)
def test_a_failure_of_the_generation_is_told_from_one_of_the_queue(
    odd_provider: Receiver, answers_: list[Answer], kind: ErrorKind, is_end: bool
) -> None:
    odd_provider.answers(*answers_)
    error = error_of(lambda: adapter(odd_provider).poll(TICKET))
    assert (error.kind, error.ends_generation) == (kind, is_end)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (answer({"detail": "User is locked. Reason: Exhausted balance."}, 403), ErrorKind.INSUFFICIENT_FUNDS),
        (answer({"detail": "forbidden"}, 403), ErrorKind.AUTHENTICATION),
        (answer({"detail": "no such app"}, 404), ErrorKind.INVALID_REQUEST),
        (answer({"detail": _POLICY}, 422), ErrorKind.CONTENT_REJECTED),
        (answer({"status": "IN_QUEUE"}), ErrorKind.MALFORMED),
        (answer({"request_id": ""}), ErrorKind.MALFORMED),
        (Answer(body=b"[]"), ErrorKind.MALFORMED),
    ],
)
def test_a_refused_submit_has_its_kind(odd_provider: Receiver, given: Answer, kind: ErrorKind) -> None:
    odd_provider.answers(given)
    assert error_of(lambda: adapter(odd_provider).submit(ask())).kind == kind
    assert len(odd_provider.requests) == 1


def test_the_answer_about_another_request_is_malformed(odd_provider: Receiver) -> None:
    odd_provider.answers(answer({"request_id": "r1", "status": "IN_PROGRESS"}))
    error = error_of(lambda: adapter(odd_provider).poll(Ticket("r2", {"model": MODEL})))
    assert (error.kind, error.ends_generation) == (ErrorKind.MALFORMED, False)

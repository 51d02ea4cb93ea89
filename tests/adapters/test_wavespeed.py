"""The WaveSpeedAI adapter against the simulator: what it sends, and what it makes of the answers."""

import json
from datetime import timedelta
from typing import Any

import pytest

from apps.core import clock
from apps.providers import http
from apps.providers.adapters.wavespeed import WaveSpeed
from apps.providers.contract import GenerationRequest, Pending, Result, Ticket
from apps.providers.errors import ErrorKind, ProviderError
from tests.fakes.receiver import Answer, Receiver
from tests.fakes.simulator import Simulator, free_port, wait_until

MODEL = "wavespeed-ai/fast-draft"


@pytest.fixture
def adapter(simulator: Simulator) -> WaveSpeed:
    return WaveSpeed(**simulator.provider_settings)


def ask(
    prompt: str = "a red fox", *, kind: str = "image", webhook_url: str | None = None, **params: Any
) -> GenerationRequest:
    return GenerationRequest("attempt-1", kind, MODEL, prompt, params, webhook_url)


def finished(adapter: WaveSpeed, ticket: Ticket) -> Result:
    def result() -> Result | None:
        answer = adapter.poll(ticket)
        return answer if isinstance(answer, Result) else None

    done: Result = wait_until(result)
    return done


def refused(adapter: WaveSpeed, request: GenerationRequest) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        adapter.submit(request)
    return caught.value


def test_a_submit_gives_a_ticket_that_leads_to_the_outputs(adapter: WaveSpeed, simulator: Simulator) -> None:
    simulator.settings(time_scale=1)
    pending = adapter.submit(ask("a red fox [time:0.1]", width=64, height=32, seed=3, n=2))
    assert isinstance(pending, Pending)
    assert pending.status == "generating"
    result = finished(adapter, pending.ticket)
    assert result.ticket == pending.ticket
    assert [output.flagged for output in result.outputs] == [False, False]
    assert result.inference_ms == 100
    assert result.reported_cost_usd is None


def test_a_submit_may_be_answered_with_the_result(adapter: WaveSpeed, simulator: Simulator) -> None:
    simulator.settings(time_scale=0)
    result = adapter.submit(ask())
    assert isinstance(result, Result)
    assert len(result.outputs) == 1


def test_a_task_in_the_queue_is_submitted_not_generating(adapter: WaveSpeed, simulator: Simulator) -> None:
    simulator.settings(time_scale=1, concurrency=1)
    adapter.submit(ask("first [time:5]"))
    answer = adapter.submit(ask("second"))
    assert isinstance(answer, Pending)
    assert answer.status == "submitted"


def test_the_attempt_and_the_webhook_reach_the_provider(adapter: WaveSpeed, simulator: Simulator) -> None:
    url = "http://127.0.0.1:9/v1/hook?a=1&b=2"
    adapter.submit(ask(webhook_url=url))
    (submit,) = simulator.ledger()["submits"]
    assert (submit["idempotency_key"], submit["webhook_url"]) == ("attempt-1", url)


def test_parameters_are_sent_in_the_providers_words(odd_provider: Receiver) -> None:
    prediction = {"id": "t1", "status": "created"}
    odd_provider.answers(Answer(body=json.dumps({"code": 200, "data": prediction}).encode()))
    request = ask("x", width=512, height=256, n=2, seed=7, duration_s=5.0, resolution="720p", voice=None)
    WaveSpeed(odd_provider.url, "the-key", "").submit(request)
    (sent,) = odd_provider.requests
    assert sent.path == f"/api/v3/{MODEL}"
    assert sent.headers["authorization"] == "Bearer the-key"
    assert json.loads(sent.body) == {
        "prompt": "x",
        "size": "512*256",
        "num_images": 2,
        "seed": 7,
        "duration": 5,
        "resolution": "720p",
    }


def test_a_flagged_output_says_so(adapter: WaveSpeed) -> None:
    pending = adapter.submit(ask("x [fault:nsfw]"))
    assert finished(adapter, pending.ticket or Ticket("")).outputs[0].flagged


def test_a_failed_generation_is_an_error_that_ends_it(adapter: WaveSpeed) -> None:
    pending = adapter.submit(ask("x [fault:failed]"))
    with pytest.raises(ProviderError) as caught:
        finished(adapter, pending.ticket or Ticket(""))
    assert caught.value.kind == ErrorKind.GENERATION_FAILED
    assert caught.value.ends_generation


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("x [fault:500]", ErrorKind.SERVER_ERROR),
        ("x [fault:429=7]", ErrorKind.RATE_LIMITED),
        ("x [fault:reset]", ErrorKind.AMBIGUOUS),
        ("x [fault:accept-reset]", ErrorKind.AMBIGUOUS),
        (" ", ErrorKind.INVALID_REQUEST),
    ],
)
def test_a_refused_submit_has_its_kind(adapter: WaveSpeed, prompt: str, kind: ErrorKind) -> None:
    assert refused(adapter, ask(prompt)).kind == kind


@pytest.mark.parametrize("fault", ["500", "429", "reset", "accept-reset", "hang"])
@pytest.mark.usefixtures("impatient")
def test_a_submit_is_sent_once_whatever_happens(adapter: WaveSpeed, simulator: Simulator, fault: str) -> None:
    refused(adapter, ask(f"x [fault:{fault}]"))
    assert len(simulator.ledger()["submits"]) == 1


def test_429_says_how_long_to_wait(adapter: WaveSpeed) -> None:
    assert refused(adapter, ask("x [fault:429=7]")).retry_after_s == 7


@pytest.mark.usefixtures("impatient")
def test_a_provider_that_hangs_is_ambiguous(adapter: WaveSpeed) -> None:
    assert refused(adapter, ask("x [fault:hang=30]")).kind == ErrorKind.AMBIGUOUS


def test_a_wrong_key_is_an_authentication_error(simulator: Simulator) -> None:
    adapter = WaveSpeed(simulator.base_url, "wrong", "")
    assert refused(adapter, ask()).kind == ErrorKind.AUTHENTICATION


def test_nobody_listening_is_proven_unsent() -> None:
    adapter = WaveSpeed(f"http://127.0.0.1:{free_port()}", "k", "")
    error = refused(adapter, ask())
    assert (error.kind, error.policy.billed) == (ErrorKind.CONNECT, "no")


def test_an_unknown_ticket_is_not_found(adapter: WaveSpeed) -> None:
    with pytest.raises(ProviderError) as caught:
        adapter.poll(Ticket("nobody"))
    assert caught.value.kind == ErrorKind.NOT_FOUND
    assert not caught.value.ends_generation


def test_it_cannot_cancel_or_find(adapter: WaveSpeed) -> None:
    assert adapter.cancel(Ticket("t")) is False
    assert adapter.find(ask()) is None


def test_a_representation_shows_no_secret(adapter: WaveSpeed, simulator: Simulator) -> None:
    assert simulator.api_key not in repr(adapter)
    assert simulator.webhook_secret not in repr(adapter)


def envelope(**prediction: Any) -> Answer:
    return Answer(
        body=json.dumps({"code": 200, "message": "success", "data": {"id": "t1", **prediction}}).encode()
    )


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (
            Answer(status=400, body=b'{"code":400,"message":"prompt hits our content policy"}'),
            ErrorKind.CONTENT_REJECTED,
        ),
        (Answer(status=402, body=b'{"code":402,"message":"no credits"}'), ErrorKind.INSUFFICIENT_FUNDS),
        (Answer(status=404, body=b'{"code":404,"message":"model not found"}'), ErrorKind.INVALID_REQUEST),
        (Answer(status=502, body=b"<html>nginx</html>"), ErrorKind.AMBIGUOUS),
        (Answer(status=503), ErrorKind.SERVER_ERROR),
        (Answer(status=504), ErrorKind.AMBIGUOUS),
        (Answer(status=302, headers={"Location": "http://127.0.0.1:1/"}), ErrorKind.MALFORMED),
        (Answer(body=b'{"code":402,"message":"no credits"}'), ErrorKind.INSUFFICIENT_FUNDS),
        (Answer(body=b""), ErrorKind.MALFORMED),
        (Answer(body=b"<html>"), ErrorKind.MALFORMED),
        (Answer(body=b"[]"), ErrorKind.MALFORMED),
        (Answer(body=b"[" * 200_000), ErrorKind.MALFORMED),
        (Answer(body=b'{"code":200,"data":{"status":"created"}}'), ErrorKind.MALFORMED),
        (Answer(body=b'{"code":200,"da', length=500), ErrorKind.AMBIGUOUS),
        (Answer(body=b" " * (http.MAX_BYTES + 1)), ErrorKind.MALFORMED),
        (envelope(status="completed", outputs=[]), ErrorKind.BAD_OUTPUT),
        (envelope(status="completed", outputs=None), ErrorKind.BAD_OUTPUT),
        (envelope(status="completed", outputs=["file:///etc/passwd"]), ErrorKind.BAD_OUTPUT),
        (envelope(status="timeout"), ErrorKind.GENERATION_FAILED),
        (envelope(status="cancelled"), ErrorKind.CANCELED),
        (envelope(status="failed", error="NSFW content detected"), ErrorKind.CONTENT_REJECTED),
    ],
)
def test_a_strange_answer_has_its_kind(odd_provider: Receiver, answer: Answer, kind: ErrorKind) -> None:
    odd_provider.answers(answer)
    assert refused(WaveSpeed(odd_provider.url, "k", ""), ask()).kind == kind
    assert len(odd_provider.requests) == 1


@pytest.mark.parametrize("status", ["warming-up", None, 3])
def test_a_status_nobody_knows_is_still_pending(odd_provider: Receiver, status: object) -> None:
    odd_provider.answers(envelope(status=status))
    assert isinstance(WaveSpeed(odd_provider.url, "k", "").poll(Ticket("t1")), Pending)


def test_a_sync_timeout_is_a_task_like_any_other(odd_provider: Receiver) -> None:
    body = {"code": 5004, "message": "timeout", "data": {"id": "t1", "status": "processing"}}
    odd_provider.answers(Answer(body=json.dumps(body).encode()))
    assert WaveSpeed(odd_provider.url, "k", "").submit(ask()) == Pending(Ticket("t1"), "generating")


def test_the_answer_about_another_task_is_malformed(odd_provider: Receiver) -> None:
    odd_provider.answers(envelope(status="completed", outputs=["http://127.0.0.1/x.png"]))
    with pytest.raises(ProviderError) as caught:
        WaveSpeed(odd_provider.url, "k", "").poll(Ticket("t2"))
    assert caught.value.kind == ErrorKind.MALFORMED


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_poll_that_fails_is_not_the_end(odd_provider: Receiver, status: int) -> None:
    odd_provider.answers(Answer(status=status))
    with pytest.raises(ProviderError) as caught:
        WaveSpeed(odd_provider.url, "k", "").poll(Ticket("t1"))
    assert not caught.value.ends_generation


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2.5", 2.5),
        ("-3", 0),
        ("nan", None),
        ("999999999", 600),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 600),
    ],
)
def test_retry_after_is_read_and_held_within_reason(
    odd_provider: Receiver, header: str, seconds: float | None
) -> None:
    odd_provider.answers(Answer(status=429, headers={"Retry-After": header}))
    assert refused(WaveSpeed(odd_provider.url, "k", ""), ask()).retry_after_s == seconds


def test_retry_after_as_a_date_is_measured_from_now(odd_provider: Receiver) -> None:
    now = clock.now().replace(microsecond=0)
    header = now.strftime("%a, %d %b %Y %H:%M:%S GMT")
    odd_provider.answers(Answer(status=429, headers={"Retry-After": header}))
    with clock.frozen(now - timedelta(seconds=90)):
        assert refused(WaveSpeed(odd_provider.url, "k", ""), ask()).retry_after_s == 90


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_drips_is_cut_off(odd_provider: Receiver) -> None:
    def drip() -> Any:
        while not odd_provider.closing.wait(0.05):
            yield b" "

    odd_provider.answers(Answer(chunks=drip()))
    assert refused(WaveSpeed(odd_provider.url, "k", ""), ask()).kind == ErrorKind.AMBIGUOUS


@pytest.mark.usefixtures("impatient")
def test_a_poll_whose_answer_drips_is_cut_off(odd_provider: Receiver) -> None:
    def drip() -> Any:
        while not odd_provider.closing.wait(0.05):
            yield b" "

    odd_provider.answers(Answer(chunks=drip()))
    with pytest.raises(ProviderError) as caught:
        WaveSpeed(odd_provider.url, "k", "").poll(Ticket("t1"))
    assert caught.value.kind == ErrorKind.AMBIGUOUS

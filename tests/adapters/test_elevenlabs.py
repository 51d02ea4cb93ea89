"""The ElevenLabs adapter against the simulator: what it sends, and what it makes of the answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from apps.providers.adapters.elevenlabs import ElevenLabs
from apps.providers.contract import Change, GenerationRequest
from apps.providers.errors import ErrorKind
from tests.adapters.sync import bought, decoded, refused, unfit
from tests.fakes.receiver import Answer, Receiver
from tests.fakes.simulator import Simulator, wait_until

SOUND = "eleven_text_to_sound_v2"


@pytest.fixture
def adapter(simulator: Simulator) -> ElevenLabs:
    return ElevenLabs(f"{simulator.base_url}/elevenlabs", simulator.api_key)


def say(
    prompt: str = "Good morning.", *, model: str = "eleven_multilingual_v2", **params: Any
) -> GenerationRequest:
    return GenerationRequest("attempt-1", "audio", model, prompt, params)


@pytest.mark.parametrize("voice", ["aria", "liam", "sora", "noor", None])
def test_speech_comes_as_mp3(
    adapter: ElevenLabs, simulator: Simulator, tmp_path: Path, voice: str | None
) -> None:
    result = bought(adapter, say("It takes about three seconds to say all of this.", voice=voice))
    assert result.ticket is None
    found = decoded(result.outputs[0].data, "audio", "audio/mpeg", tmp_path)
    assert found.duration_s == pytest.approx(2.9, abs=0.1)
    assert len(simulator.ledger()["charges"]) == 1


def test_a_sound_lasts_as_long_as_asked(adapter: ElevenLabs, tmp_path: Path) -> None:
    result = bought(adapter, say("rain on a roof", model=SOUND, duration_s=2))
    found = decoded(result.outputs[0].data, "audio", "audio/mpeg", tmp_path)
    assert found.duration_s == pytest.approx(2, abs=0.1)


def test_speech_is_asked_for_in_the_providers_words(odd_provider: Receiver) -> None:
    odd_provider.answers(Answer(body=b"sound"))
    bought(ElevenLabs(odd_provider.url, "the-key"), say("Hello", voice="liam", seed=7))
    (sent,) = odd_provider.requests
    assert sent.path == "/v1/text-to-speech/TX3LPaxmHKxFdv7VOQHJ?output_format=mp3_44100_128"
    assert sent.headers["xi-api-key"] == "the-key"
    assert "authorization" not in sent.headers
    assert json.loads(sent.body) == {"text": "Hello", "model_id": "eleven_multilingual_v2", "seed": 7}


def test_a_sound_is_asked_for_in_the_providers_words(odd_provider: Receiver) -> None:
    odd_provider.answers(Answer(body=b"sound"))
    bought(ElevenLabs(odd_provider.url, "k"), say("rain", model=SOUND, duration_s=2, voice="aria"))
    (sent,) = odd_provider.requests
    assert sent.path == "/v1/sound-generation?output_format=mp3_44100_128"
    assert json.loads(sent.body) == {"text": "rain", "model_id": SOUND, "duration_seconds": 2.0}


def test_a_voice_it_does_not_have_is_spoken_by_the_nearest_and_said() -> None:
    fitted = ElevenLabs("", "k").fit(say(voice="sora", seed=1))
    assert fitted.request.params == {"voice": "jessica", "seed": 1}
    assert fitted.changes == (Change("voice", "sora", "jessica"),)


def test_what_it_does_not_know_is_dropped_and_said() -> None:
    fitted = ElevenLabs("", "k").fit(say("rain", model=SOUND, duration_s=3, seed=4, n=1))
    assert (fitted.request.params, fitted.changes) == ({"duration_s": 3}, (Change("seed", 4),))


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest("a", "image", "eleven_v3", "x"),
        say(n=2),
        say(voice="nobody"),
        say(duration_s=5),
        say(model=SOUND, duration_s=31),
        say("x" * 40_001),
    ],
)
def test_what_it_cannot_make_is_refused_before_anything_is_sent(request_: GenerationRequest) -> None:
    assert unfit(ElevenLabs("", "k"), request_) == ErrorKind.UNSUPPORTED


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("x [fault:500]", ErrorKind.SERVER_ERROR),
        ("x [fault:failed]", ErrorKind.SERVER_ERROR),
        ("x [fault:429-concurrency]", ErrorKind.RATE_LIMITED),
        ("x [fault:429]", ErrorKind.SERVER_ERROR),
        ("x [fault:429-quota]", ErrorKind.INSUFFICIENT_FUNDS),
        ("x [fault:reset]", ErrorKind.AMBIGUOUS),
        ("x [fault:accept-reset]", ErrorKind.AMBIGUOUS),
        ("x [fault:refused]", ErrorKind.CONTENT_REJECTED),
        ("x [fault:nsfw]", ErrorKind.CONTENT_REJECTED),
        (" ", ErrorKind.INVALID_REQUEST),
    ],
)
@pytest.mark.parametrize("model", ["eleven_multilingual_v2", SOUND])
def test_a_refused_submit_has_its_kind(adapter: ElevenLabs, model: str, prompt: str, kind: ErrorKind) -> None:
    assert refused(adapter, say(prompt, model=model)).kind == kind


@pytest.mark.parametrize("fault", ["500", "429", "reset", "accept-reset", "hang", "failed"])
@pytest.mark.usefixtures("impatient")
def test_a_submit_is_sent_once_whatever_happens(
    adapter: ElevenLabs, simulator: Simulator, fault: str
) -> None:
    refused(adapter, say(f"x [fault:{fault}]"))
    assert len(simulator.ledger()["submits"]) == 1


@pytest.mark.usefixtures("impatient")
def test_speech_that_takes_too_long_is_ambiguous_and_billed_all_the_same(
    adapter: ElevenLabs, simulator: Simulator
) -> None:
    simulator.settings(time_scale=1)
    assert refused(adapter, say("x [time:0.4]")).kind == ErrorKind.AMBIGUOUS
    wait_until(lambda: simulator.ledger()["charges"])


def error(status: int, code: str, *, name: str = "status") -> Answer:
    return Answer(status=status, body=json.dumps({"detail": {name: code, "message": "no"}}).encode())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(401, "invalid_api_key"), ErrorKind.AUTHENTICATION),
        (error(401, "quota_exceeded"), ErrorKind.INSUFFICIENT_FUNDS),
        (error(400, "quota_exceeded"), ErrorKind.INSUFFICIENT_FUNDS),
        (error(401, "quota_exceeded", name="code"), ErrorKind.INSUFFICIENT_FUNDS),
        (error(400, "max_character_limit_exceeded"), ErrorKind.INVALID_REQUEST),
        (error(404, "voice_not_found"), ErrorKind.INVALID_REQUEST),
        (error(429, "too_many_concurrent_requests"), ErrorKind.RATE_LIMITED),
        (error(429, "system_busy"), ErrorKind.SERVER_ERROR),
        (error(429, "a new word"), ErrorKind.RATE_LIMITED),
        (error(503, "system_busy"), ErrorKind.SERVER_ERROR),
        (
            Answer(status=422, body=b'{"detail":[{"loc":["text"],"msg":"missing"}]}'),
            ErrorKind.INVALID_REQUEST,
        ),
        (Answer(status=400, body=b'{"detail":"no"}'), ErrorKind.INVALID_REQUEST),
        (Answer(status=502, body=b"<html>nginx</html>"), ErrorKind.AMBIGUOUS),
        (Answer(status=504), ErrorKind.AMBIGUOUS),
        (Answer(status=302, headers={"Location": "http://127.0.0.1:1/"}), ErrorKind.MALFORMED),
        (Answer(), ErrorKind.BAD_OUTPUT),
        (Answer(body=b"half a sound", length=500), ErrorKind.AMBIGUOUS),
    ],
)
def test_a_strange_answer_has_its_kind(odd_provider: Receiver, answer: Answer, kind: ErrorKind) -> None:
    odd_provider.answers(answer)
    assert refused(ElevenLabs(odd_provider.url, "k"), say()).kind == kind
    assert len(odd_provider.requests) == 1

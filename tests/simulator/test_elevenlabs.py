"""The simulator speaks the ElevenLabs protocol as its documentation describes it."""

from typing import Any

import httpx
import pytest

from tests.fakes.simulator import Simulator

ARIA = "9BWtsMINqrJLrRacOk9x"
SPEECH, SOUND = "eleven_multilingual_v2", "eleven_text_to_sound_v2"


@pytest.fixture
def client(simulator: Simulator) -> Any:
    with httpx.Client(
        base_url=f"{simulator.base_url}/elevenlabs/v1", headers={"xi-api-key": simulator.api_key}, timeout=10
    ) as opened:
        yield opened


def test_speech_comes_as_mp3_and_costs_its_characters(client: httpx.Client, simulator: Simulator) -> None:
    simulator.settings(prices={"multilingual": "0.10"})
    answer = client.post(
        f"/text-to-speech/{ARIA}", json={"text": "Good morning.", "model_id": SPEECH, "seed": 3}
    )
    assert (answer.headers["content-type"], answer.headers["character-cost"]) == ("audio/mpeg", "13")
    assert answer.content.startswith(b"ID3")
    assert [charge["amount_usd"] for charge in simulator.ledger()["charges"]] == ["0.00130"]


def test_a_sound_comes_as_mp3(client: httpx.Client) -> None:
    answer = client.post("/sound-generation", json={"text": "rain", "model_id": SOUND, "duration_seconds": 1})
    assert answer.content.startswith(b"ID3")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (f"text-to-speech/{ARIA}", {"text": "x"}, 400, "invalid_request"),
        (f"text-to-speech/{ARIA}", {"text": " ", "model_id": SPEECH}, 400, "invalid_request"),
        (f"text-to-speech/{ARIA}", {"text": "x", "model_id": "tts-1"}, 400, "model_not_found"),
        ("text-to-speech/aria", {"text": "x", "model_id": SPEECH}, 404, "voice_not_found"),
        (
            f"text-to-speech/{ARIA}?output_format=ogg",
            {"text": "x", "model_id": SPEECH},
            400,
            "invalid_output_format",
        ),
        (
            "sound-generation",
            {"text": "x", "model_id": SOUND, "duration_seconds": 31},
            400,
            "invalid_request",
        ),
        ("sound-generation", {"text": "x [fault:429]", "model_id": SOUND}, 429, "system_busy"),
        ("sound-generation", {"text": "x [fault:429-quota]", "model_id": SOUND}, 401, "quota_exceeded"),
        (
            "sound-generation",
            {"text": "x [fault:429-concurrency]", "model_id": SOUND},
            429,
            "too_many_concurrent_requests",
        ),
    ],
)
def test_a_refusal_has_a_status_in_its_detail(
    client: httpx.Client, path: str, body: dict[str, object], status: int, code: str
) -> None:
    answer = client.post(path, json=body)
    assert (answer.status_code, answer.json()["detail"]["status"]) == (status, code)


def test_the_key_has_a_header_of_its_own(client: httpx.Client, simulator: Simulator) -> None:
    assert client.get("/user").json()["subscription"]["tier"] == "creator"
    url = f"{simulator.base_url}/elevenlabs/v1/user"
    answer = httpx.get(url, headers={"authorization": f"Bearer {simulator.api_key}"})
    assert (answer.status_code, answer.json()["detail"]["status"]) == (401, "invalid_api_key")

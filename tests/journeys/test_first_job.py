"""What a newcomer does: submit, wait, download, read the bill, be told, ask again and pay nothing."""

import hashlib
import io
from decimal import Decimal
from typing import Any

import httpx
import pytest
from PIL import Image
from standardwebhooks import Webhook

from tests.chaos.crowd import Crowd
from tests.fakes.receiver import Receiver
from tests.stack import Stack

BODY = {"type": "image", "prompt": "a lighthouse above a calm sea", "model": "fast-draft"}
SMALL = {"width": 64, "height": 64}


def ended(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """The job, waited for as a client would."""
    for _ in range(6):
        job = client.get(job["urls"]["self"], params={"wait": 10}).raise_for_status().json()
        if job["finished_at"]:
            return job
    raise AssertionError(job)


def test_a_first_job_over_http(stack: Stack) -> None:
    client = stack.client()
    before = client.get("/v1/budget").json()
    with Receiver() as customer:
        answer = client.post("/v1/jobs", json={**BODY, "params": SMALL, "callback_url": customer.url})
        assert answer.status_code == 202
        assert answer.headers["location"] == answer.json()["urls"]["self"]
        job = ended(client, answer.json())
        assert (job["status"], job["phase"], job["progress"]) == ("completed", "completed", 1.0)
        [received] = customer.wait_for(1)
        secret = client.get("/v1/webhooks/secret").json()["key"]
        told = Webhook(secret).verify(received.body, received.headers)
        assert (told["type"], told["data"]["id"]) == ("job.completed", job["id"])

    [output] = job["outputs"]
    content = httpx.get(output["url"]).raise_for_status().content
    assert hashlib.sha256(content).hexdigest() == output["sha256"]
    assert Image.open(io.BytesIO(content)).size == (64, 64) == (output["width"], output["height"])

    after = client.get("/v1/budget").json()
    assert Decimal(after["spent_usd"]) - Decimal(before["spent_usd"]) == Decimal(job["cost_usd"])
    assert Decimal(job["cost_usd"]) == Decimal("0.005")
    Crowd.of(stack, [job["id"]]).all_completed_once()

    again = client.post("/v1/jobs", json={**BODY, "params": SMALL})
    assert (again.status_code, again.json()["cached"], again.json()["cost_usd"]) == (200, True, "0")
    assert again.json()["outputs"][0]["sha256"] == output["sha256"]
    assert client.get("/v1/budget").json() == after


def test_another_team_sees_nothing_of_it(stack: Stack) -> None:
    job = stack.client().post("/v1/jobs", json={**BODY, "params": SMALL, "cache": "off"}).json()
    other = stack.client("other")
    assert other.get(job["urls"]["self"]).status_code == 404
    assert other.post(job["urls"]["cancel"]).status_code == 404
    assert job["id"] not in other.get("/v1/jobs").text
    assert ended(stack.client(), job)["status"] == "completed"


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        ({"type": "video", "model": "clip", "params": {"duration_s": 1}}, "video/mp4"),
        ({"type": "audio", "model": "speech"}, "audio/wav"),
    ],
    ids=["video", "audio"],
)
def test_other_kinds_over_http(stack: Stack, body: dict[str, Any], media_type: str) -> None:
    client = stack.client()
    job = ended(client, client.post("/v1/jobs", json={"prompt": "Good evening. [time:4]", **body}).json())
    assert job["status"] == "completed", job
    [output] = job["outputs"]
    assert output["media_type"] == media_type
    assert len(httpx.get(output["url"]).raise_for_status().content) == output["size_bytes"]
    Crowd.of(stack, [job["id"]]).all_completed_once()


def test_a_user_without_a_budget_is_told_when_to_come_back(stack: Stack) -> None:
    answer = stack.client("broke").post("/v1/jobs", json=BODY)
    assert (answer.status_code, answer.json()["code"]) == (402, "budget_exceeded")
    assert answer.json()["reset_date"]

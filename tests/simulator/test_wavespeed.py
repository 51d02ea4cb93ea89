"""The simulator speaks the WaveSpeedAI protocol as its documentation describes it."""

import hashlib
import hmac
import json
import math
import statistics
import time

import httpx
import pytest

from tests.fakes.receiver import Answer, Receiver
from tests.fakes.simulator import Simulator, free_port, wait_until
from tests.simulator.client import MODEL, Client


def test_a_submit_is_answered_at_once_and_completes_later(client: Client, simulator: Simulator) -> None:
    simulator.settings(time_scale=1)
    answer = client.post({"prompt": "a red fox [time:0.3]"})
    assert answer.status_code == 200
    assert answer.json()["code"] == 200
    data = answer.json()["data"]
    assert data["status"] == "processing"
    assert data["outputs"] == []
    assert data["model"] == MODEL
    done = client.ended(data["id"])
    assert done["status"] == "completed"
    assert done["has_nsfw_contents"] == [False]
    assert done["timings"]["inference"] == 300
    assert len(done["outputs"]) == 1


def test_a_task_waits_as_created_while_every_slot_is_taken(client: Client, simulator: Simulator) -> None:
    simulator.settings(time_scale=1, concurrency=1)
    first = client.submit({"prompt": "one [time:0.3]"})
    second = client.submit({"prompt": "two [time:0.01]"})
    assert (first["status"], second["status"]) == ("processing", "created")
    client.ended(second["id"])
    tasks = {task["id"]: task for task in simulator.ledger()["tasks"]}
    assert tasks[second["id"]]["ends_at"] == pytest.approx(tasks[first["id"]]["ends_at"] + 0.01, abs=0.001)


def test_at_time_scale_zero_the_submit_is_answered_with_the_result(
    client: Client, simulator: Simulator
) -> None:
    simulator.settings(time_scale=0)
    data = client.submit({"prompt": "now"})
    assert data["status"] == "completed"
    assert len(data["outputs"]) == 1


def test_sync_mode_answers_with_the_result(client: Client) -> None:
    assert client.submit({"prompt": "wait for it", "enable_sync_mode": True})["status"] == "completed"


def test_sync_mode_that_takes_too_long_answers_with_code_5004(client: Client, simulator: Simulator) -> None:
    simulator.settings(time_scale=1, sync_timeout_s=0.05)
    answer = client.post({"prompt": "slow [time:30]", "enable_sync_mode": True}).json()
    assert (answer["code"], answer["data"]["status"]) == (5004, "processing")


def test_several_images_come_as_several_outputs(client: Client) -> None:
    done = client.ended(client.submit({"prompt": "four of them", "num_images": 3, "size": "64*64"})["id"])
    assert len(done["outputs"]) == 3
    assert len({client.http.get(url).content for url in done["outputs"]}) == 3


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Bearer", "Basic sim-test-key"])
def test_a_wrong_key_is_refused_and_nothing_is_accepted(
    client: Client, simulator: Simulator, authorization: str | None
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    answer = httpx.post(f"{simulator.base_url}/api/v3/{MODEL}", json={"prompt": "x"}, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["code"] == 401
    ledger = simulator.ledger()
    assert ledger["tasks"] == []
    assert [submit["outcome"] for submit in ledger["submits"]] == ["401"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": " "},
        {"prompt": 3},
        {"prompt": "x", "size": "1024"},
        {"prompt": "x", "size": "9999*9999"},
        {"prompt": "x", "width": True},
        {"prompt": "x", "num_images": 0},
        {"prompt": "x", "seed": -2},
        {"prompt": "[fault:no-such-thing]"},
    ],
)
def test_a_bad_request_is_refused_in_the_envelope(client: Client, body: dict[str, object]) -> None:
    answer = client.post(body)
    assert answer.status_code == 400
    assert answer.json()["code"] == 400


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(client: Client, raw: bytes) -> None:
    assert client.http.post(f"/api/v3/{MODEL}", content=raw).status_code == 400


def test_an_unknown_prediction_is_not_found(client: Client) -> None:
    answer = client.http.get("/api/v3/predictions/nobody/result")
    assert (answer.status_code, answer.json()["code"]) == (404, 404)


def test_the_end_is_told_by_a_signed_webhook(
    client: Client, simulator: Simulator, receiver: Receiver
) -> None:
    task_id = client.submit({"prompt": "tell me"}, webhook=receiver.url)["id"]
    told = receiver.wait_for(1)[0]
    data = json.loads(told.body)
    assert (data["id"], data["status"]) == (task_id, "completed")
    assert "tell me" not in told.body.decode()
    timestamp = told.headers["webhook-timestamp"]
    assert abs(time.time() - int(timestamp)) < 5
    # The secret without its prefix, as text: not base64-decoded as Standard Webhooks would.
    key = simulator.webhook_secret.removeprefix("whsec_").encode()
    signed = f"{told.headers['webhook-id']}.{timestamp}.".encode() + told.body
    assert told.headers["webhook-signature"] == "v3," + hmac.new(key, signed, hashlib.sha256).hexdigest()


def test_the_webhook_secret_is_shown_to_a_key(client: Client, simulator: Simulator) -> None:
    assert client.http.get("/api/v3/webhook/secret").json()["data"]["secret"] == simulator.webhook_secret
    assert httpx.get(f"{simulator.base_url}/api/v3/webhook/secret").status_code == 401


def test_a_refused_webhook_is_sent_again_with_the_same_id(
    client: Client, simulator: Simulator, receiver: Receiver
) -> None:
    simulator.settings(webhook_retry_delays_s=[0.01, 0.01])
    receiver.answers(Answer(status=500), Answer(status=302))
    task_id = client.submit({"prompt": "again"}, webhook=receiver.url)["id"]
    ids = {told.headers["webhook-id"] for told in receiver.wait_for(3)}
    assert len(ids) == 1
    wait_until(lambda: len(simulator.ledger(task_id)["webhooks"]) == 3)
    sent = simulator.ledger(task_id)["webhooks"]
    assert [(row["attempt"], row["status"]) for row in sent] == [(1, 500), (2, 302), (3, 200)]


def test_a_receiver_that_is_away_is_tried_a_few_times(client: Client, simulator: Simulator) -> None:
    simulator.settings(webhook_retry_delays_s=[0.01, 0.01])
    task_id = client.submit({"prompt": "hello?"}, webhook=f"http://127.0.0.1:{free_port()}/")["id"]
    wait_until(lambda: len(simulator.ledger(task_id)["webhooks"]) == 3)
    assert {row["error"] for row in simulator.ledger(task_id)["webhooks"]} == {"ConnectError"}


@pytest.mark.parametrize(
    ("model", "tail", "median_s"),
    [(MODEL, 0.0, 4.0), ("wavespeed-ai/motion-video", 0.0, 45.0), ("wavespeed-ai/clear-speech", 1.0, 30.0)],
)
def test_generation_takes_lognormal_time(
    client: Client, simulator: Simulator, model: str, tail: float, median_s: float
) -> None:
    simulator.settings(time_scale=1, tail=tail, concurrency=1000)
    for _ in range(200):
        client.submit({"prompt": "how long?"}, model=model)
    specs = [json.loads(task["spec"]) for task in simulator.ledger()["tasks"]]
    times_s = sorted(spec["ends_at"] - spec["starts_at"] for spec in specs)
    assert statistics.median(times_s) == pytest.approx(median_s, rel=0.2)
    # As long a way up to the slow ones as down to the quick ones, on a logarithmic scale.
    slow, quick = times_s[180] / median_s, median_s / times_s[20]
    assert slow > 1.5
    assert math.log(slow) == pytest.approx(math.log(quick), rel=0.5)

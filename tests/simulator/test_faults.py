"""What goes wrong goes wrong exactly as asked, and the bill says what a provider's would."""

import io
import re
from pathlib import Path

import httpx
import pytest
from PIL import Image

from apps.simulator import faults
from tests.fakes.receiver import Receiver
from tests.fakes.simulator import Simulator, wait_until
from tests.simulator.client import Client


def test_a_counted_fault_strikes_the_first_submits_of_its_prompt_only(client: Client) -> None:
    prompt = {"prompt": "a fox [fault:500*2]"}
    assert [client.post(prompt).status_code for _ in range(3)] == [500, 500, 200]
    assert client.post({"prompt": "a hen [fault:500*2]"}).status_code == 500


def test_429_says_when_to_come_back(client: Client) -> None:
    answer = client.post({"prompt": "x [fault:429=7]"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


def test_a_hang_ends_with_the_client_and_nothing_is_accepted(client: Client, simulator: Simulator) -> None:
    with pytest.raises(httpx.ReadTimeout):
        client.post({"prompt": "x [fault:hang=30]"}, timeout_s=0.1)
    submit = wait_until(lambda: [s for s in simulator.ledger()["submits"] if s["outcome"] != "received"])[0]
    assert submit["outcome"] == "client gone"
    assert simulator.ledger()["tasks"] == []


def test_a_hang_that_the_client_sits_out_is_accepted(client: Client) -> None:
    assert client.post({"prompt": "x [fault:hang=0.05]"}).status_code == 200


def test_a_reset_before_accepting_leaves_no_task(client: Client, simulator: Simulator) -> None:
    with pytest.raises(httpx.ReadError):
        client.post({"prompt": "x [fault:reset]"})
    assert simulator.ledger()["tasks"] == []


@pytest.mark.parametrize("time_scale", [0, 0.01])
def test_a_reset_after_accepting_leaves_a_billed_task_that_calls_back(
    client: Client, simulator: Simulator, receiver: Receiver, time_scale: float
) -> None:
    simulator.settings(time_scale=time_scale)
    with pytest.raises(httpx.ReadError):
        client.post({"prompt": "x [fault:accept-reset]"}, webhook=receiver.url)
    assert b'"completed"' in receiver.wait_for(1)[0].body
    assert [charge["amount_usd"] for charge in simulator.ledger()["charges"]] == ["0.005"]


def test_a_lost_webhook_is_never_sent(client: Client, simulator: Simulator, receiver: Receiver) -> None:
    task_id = client.submit({"prompt": "x [fault:lost-webhook]"}, webhook=receiver.url)["id"]
    client.ended(task_id)
    assert [row["error"] for row in simulator.ledger(task_id)["webhooks"]] == ["lost"]
    assert receiver.requests == []


def test_a_failed_task_is_told_and_not_charged(
    client: Client, simulator: Simulator, receiver: Receiver
) -> None:
    task_id = client.submit({"prompt": "x [fault:failed]"}, webhook=receiver.url)["id"]
    assert b'"failed"' in receiver.wait_for(1)[0].body
    data = client.result(task_id)
    assert (data["status"], data["outputs"]) == ("failed", [])
    assert data["error"]
    assert simulator.ledger(task_id)["charges"] == []


def test_a_flagged_output_is_charged(client: Client, simulator: Simulator) -> None:
    done = client.ended(client.submit({"prompt": "x [fault:nsfw]"})["id"])
    assert done["has_nsfw_contents"] == [True]
    assert len(simulator.ledger(done["id"])["charges"]) == 1


def test_a_truncated_image_cannot_be_decoded_and_is_charged(client: Client, simulator: Simulator) -> None:
    done = client.ended(client.submit({"prompt": "x [fault:truncated]", "size": "128*128"})["id"])
    image = Image.open(io.BytesIO(client.http.get(done["outputs"][0]).content))
    with pytest.raises(OSError, match="truncated"):
        image.load()
    assert len(simulator.ledger(done["id"])["charges"]) == 1


def test_an_injected_fault_strikes_what_it_matches_as_often_as_told(
    client: Client, simulator: Simulator
) -> None:
    simulator.faults("500", times=1, match="standard")
    assert client.post({"prompt": "x"}).status_code == 200
    assert client.post({"prompt": "x"}, model="wavespeed-ai/standard").status_code == 500
    assert client.post({"prompt": "x"}, model="wavespeed-ai/standard").status_code == 200


def test_injected_faults_can_be_cleared(client: Client, simulator: Simulator) -> None:
    simulator.faults("500")
    simulator.clear_faults()
    assert client.post({"prompt": "x"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/admin/faults", {"fault": "no-such-thing"}),
        ("/admin/settings", {"time_scale": "fast"}),
        ("/admin/settings", {"no_such_knob": 1}),
        ("/admin/settings", {"concurrency": 0}),
    ],
)
def test_a_mistaken_instruction_is_refused(client: Client, path: str, body: dict[str, object]) -> None:
    assert client.http.post(path, json=body).status_code == 400


def test_every_fault_is_documented_as_it_says_of_itself() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/simulator.md").read_text()
    told = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", page, flags=re.M))
    assert told == {name: what[0].upper() + what[1:] for name, what in faults.KNOWN.items()}

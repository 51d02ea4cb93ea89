"""A batch over HTTP and through every process: sent as a stream, worked off by itself, told of and read."""

import json
from decimal import Decimal

from tests.fakes.receiver import Receiver
from tests.fakes.simulator import wait_until
from tests.stack import Stack

COUNT = 12


def test_a_batch_runs_by_itself_from_its_lines_to_its_results(stack: Stack) -> None:
    client = stack.client()
    item = {"type": "image", "model": "fast-draft", "params": {"width": 64, "height": 64}}
    lines = [json.dumps({**item, "custom_id": f"otter-{n}", "prompt": f"otter {n}"}) for n in range(COUNT)]
    # One asks for what another does: it is bought once.
    lines.append(json.dumps({**item, "custom_id": "again", "prompt": "otter 0"}))
    with Receiver() as door:
        answer = client.post(
            "/v1/batches",
            params={"callback_url": f"{door.url}/hook", "partial": "true"},
            headers={"Content-Type": "application/jsonl"},
            content="\n".join([*lines, "{"]).encode(),
        )
        assert answer.status_code == 202, answer.text
        path = answer.headers["Location"]
        wait_until(lambda: client.get(path).json()["finished_at"], timeout_s=90)
        [told] = door.wait_for(1)
    batch = client.get(path).json()
    assert json.loads(told.body)["type"] == "batch.completed"
    counts = batch["counts"]
    assert (batch["status"], counts["completed"], counts["cached"], counts["refused"]) == (
        "completed", COUNT + 1, 1, 1,
    )  # fmt: skip
    with client.stream("GET", f"{path}/results") as stream:
        results = [json.loads(line) for line in stream.iter_lines()]
    expected = [*(f"otter-{n}" for n in range(COUNT)), "again", None]
    assert [result["custom_id"] for result in results] == expected
    assert [result["status"] for result in results] == ["completed"] * (COUNT + 1) + ["refused"]
    # Some may have been made by another route than the one that was quoted, for less.
    costs = [Decimal(result["cost_usd"]) for result in results]
    assert (Decimal(batch["cost_usd"]), batch["held_usd"]) == (sum(costs), "0")
    assert (all(costs[:COUNT]), costs[COUNT:]) == (True, [Decimal(0)] * 2)
    assert sum(costs) < Decimal(batch["estimated_cost_usd"])
    assert client.get(results[0]["outputs"][0]["url"]).content

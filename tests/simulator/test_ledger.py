"""The ledger holds what was received and charged, and outlives the process."""

import hashlib
import json
import socket
import sqlite3
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from tests.fakes.simulator import Simulator, wait_until
from tests.simulator.client import MODEL, Client


@pytest.mark.parametrize(
    ("model", "body", "amount_usd"),
    [
        ("wavespeed-ai/fast-draft", {"prompt": "x", "num_images": 3}, "0.015"),
        ("wavespeed-ai/standard", {"prompt": "x"}, "0.025"),
        ("wavespeed-ai/premium", {"prompt": "x"}, "0.08"),
        ("wavespeed-ai/motion-video", {"prompt": "x", "duration": 4}, "0.20"),
        ("wavespeed-ai/motion-video", {"prompt": "x", "duration": 4, "resolution": "1080p"}, "0.30"),
        ("wavespeed-ai/clear-speech", {"prompt": "x" * 500}, "0.015"),
    ],
)
def test_a_completed_task_is_charged_by_its_model(
    client: Client, simulator: Simulator, model: str, body: dict[str, object], amount_usd: str
) -> None:
    simulator.settings(time_scale=0)
    task_id = client.submit(body, model=model)["id"]
    charges = simulator.ledger(task_id)["charges"]
    assert [Decimal(row["amount_usd"]) for row in charges] == [Decimal(amount_usd)]


def test_prices_can_be_set(client: Client, simulator: Simulator) -> None:
    simulator.settings(time_scale=0, prices={"fast-draft": "0.5"})
    client.submit({"prompt": "x"})
    assert simulator.summary()["charged_usd"] == "0.5"


@pytest.mark.parametrize(
    ("fault", "amounts_usd"),
    [
        ("failed", []),
        ("charge-failed", ["0.005"]),
        ("cost", ["0.0075"]),
        ("cost=0.5", ["0.0025"]),
        ("double-charge", ["0.005", "0.005"]),
        ("refund=0", ["0.005", "-0.005"]),
    ],
)
def test_a_bill_may_differ_from_the_price(
    client: Client, simulator: Simulator, fault: str, amounts_usd: list[str]
) -> None:
    simulator.settings(time_scale=0)
    task_id = client.submit({"prompt": f"x [fault:{fault}]"})["id"]
    wait_until(lambda: len(simulator.ledger(task_id)["charges"]) == len(amounts_usd))
    charged = [Decimal(row["amount_usd"]) for row in simulator.ledger(task_id)["charges"]]
    assert charged == [Decimal(amount) for amount in amounts_usd]


def test_a_submit_sent_again_is_another_purchase(client: Client, simulator: Simulator) -> None:
    simulator.settings(time_scale=0)
    for _ in range(2):
        client.http.post(f"/api/v3/{MODEL}", json={"prompt": "x"}, headers={"Idempotency-Key": "k-1"})
    assert len(simulator.ledger()["charges"]) == 2


def test_a_file_of_before_there_were_several_protocols_is_read(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(file)) as old:
        old.execute(
            "CREATE TABLE charges (id INTEGER PRIMARY KEY, charged_at REAL NOT NULL, task_id TEXT NOT NULL,"
            " model TEXT NOT NULL, amount_usd TEXT NOT NULL)"
        )
        old.execute(
            "INSERT INTO charges (charged_at, task_id, model, amount_usd) VALUES (1, 't', 'm', '0.5')"
        )
        old.commit()
    running = Simulator(ledger=file)
    try:
        assert running.summary("wavespeed")["charged_usd"] == "0.5"
        assert running.summary("replicate")["charged_usd"] == "0"
    finally:
        running.stop()


def test_every_submit_is_written_down_with_its_key_and_body(client: Client, simulator: Simulator) -> None:
    raw = json.dumps({"prompt": "x"}).encode()
    client.http.post(
        f"/api/v3/{MODEL}?webhook=http://127.0.0.1:9/hook", content=raw, headers={"Idempotency-Key": "k-1"}
    )
    (submit,) = simulator.ledger()["submits"]
    assert submit["idempotency_key"] == "k-1"
    assert submit["webhook_url"] == "http://127.0.0.1:9/hook"
    assert submit["body_sha256"] == hashlib.sha256(raw).hexdigest()
    assert submit["outcome"] == "accepted"
    assert submit["task_id"] == simulator.ledger()["tasks"][0]["id"]


def test_the_ledger_can_be_read_since_a_moment(client: Client, simulator: Simulator) -> None:
    simulator.settings(time_scale=0)
    client.submit({"prompt": "before"})
    between = time.time()
    after = client.submit({"prompt": "after"})["id"]
    assert [row["task_id"] for row in simulator.ledger(since=between)["charges"]] == [after]


def test_a_reset_forgets_everything(client: Client, simulator: Simulator) -> None:
    task_id = client.submit({"prompt": "x"})["id"]
    simulator.reset()
    assert all(rows == [] for rows in simulator.ledger().values())
    assert client.http.get(f"/api/v3/predictions/{task_id}").status_code == 404


def test_a_restarted_simulator_completes_and_charges_what_it_had_accepted(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    first = Simulator(ledger=file, time_scale=1)
    with Client(first) as client:
        done = client.submit({"prompt": "done [time:0]"})["id"]
        under_way = client.submit({"prompt": "under way [time:1]"})["id"]
    first.kill()
    second = Simulator(ledger=file, port=first.port)
    try:
        with Client(second) as client:
            assert client.result(done)["status"] == "completed"
            assert client.ended(under_way)["status"] == "completed"
        assert [row["task_id"] for row in second.ledger()["charges"]] == [done, under_way]
    finally:
        second.stop()


def test_sigterm_ends_the_process_at_once_even_while_a_request_hangs() -> None:
    running = Simulator()
    body = json.dumps({"prompt": "x [fault:hang=60]"}).encode()
    head = f"POST /api/v3/{MODEL} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {running.api_key}\r\n"
    with socket.create_connection(("127.0.0.1", running.port)) as hanging:
        hanging.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: running.ledger()["submits"])
        started = time.monotonic()
        assert running.stop() == 0
    assert time.monotonic() - started < 5


def test_the_page_shows_the_latest_tasks_without_running_their_text(client: Client) -> None:
    client.submit({"prompt": "<script>alert(1)</script>", "enable_sync_mode": True})
    page = client.http.get("/")
    assert page.status_code == 200
    assert "&lt;script&gt;" in page.text
    assert "<script" not in page.text
    assert "/0.png" in page.text

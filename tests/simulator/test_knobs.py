"""Providers that fail by chance, or are dead: what breakers and fallback are tested against."""

from collections import Counter

import httpx
import pytest

from tests.fakes.simulator import Simulator
from tests.simulator.client import Client

REPLICATE = "/replicate/v1/models/black-forest-labs/fast-draft/predictions"


def at_replicate(client: Client) -> int:
    return client.http.post(REPLICATE, json={"input": {"prompt": "x"}}).status_code


def test_a_dead_protocol_answers_nothing_but_errors_and_the_others_live_on(
    client: Client, simulator: Simulator
) -> None:
    simulator.settings(dead=["replicate"])
    seen: Counter[str] = Counter()
    for path in (REPLICATE, "/replicate/v1/account") * 10:
        try:
            answer = client.http.request("POST" if path == REPLICATE else "GET", path, json={})
            seen[str(answer.status_code)] += 1
        except httpx.TransportError:
            seen["reset"] += 1
    assert seen.keys() == {"500", "reset"}
    assert simulator.ledger()["submits"] == []
    assert simulator.summary("replicate")["calls"]["dead"] == 20
    assert simulator.summary("wavespeed")["calls"]["dead"] == 0
    assert client.post({"prompt": "x"}).status_code == 200
    simulator.settings(dead=[])
    assert at_replicate(client) == 201


def test_errors_come_by_chance_at_the_rate_and_in_the_mix_that_were_set(
    client: Client, simulator: Simulator
) -> None:
    simulator.settings(time_scale=0, error_rates={"wavespeed": 0.3}, error_mix=["500", "429=1"])
    seen = Counter(client.post({"prompt": "x"}).status_code for _ in range(300))
    assert seen.keys() == {200, 429, 500}
    assert 60 <= seen[429] + seen[500] <= 120
    assert at_replicate(client) == 201


def test_the_same_seed_has_the_same_errors(client: Client, simulator: Simulator) -> None:
    def answers() -> list[int]:
        simulator.reset()
        simulator.settings(time_scale=0, error_rates={"fast-draft": 0.5}, error_mix=["500"])
        return [client.post({"prompt": "x"}).status_code for _ in range(40)]

    assert answers() == answers()


def test_a_fault_asked_for_goes_before_chance(client: Client, simulator: Simulator) -> None:
    simulator.settings(error_rates={"wavespeed": 1.0}, error_mix=["500"])
    assert client.post({"prompt": "x [fault:429]"}).status_code == 429


@pytest.mark.parametrize(
    "knobs",
    [
        {"error_rates": {"replicate": 1.5}},
        {"error_rates": {"replicate": "often"}},
        {"error_mix": ["no-such-fault"]},
        {"dead": "replicate"},
    ],
)
def test_a_mistaken_knob_is_refused(client: Client, knobs: dict[str, object]) -> None:
    assert client.http.post("/admin/settings", json=knobs).status_code == 400


def test_the_books_can_be_read_by_protocol(client: Client, simulator: Simulator) -> None:
    simulator.settings(time_scale=0)
    client.submit({"prompt": "x"})
    assert at_replicate(client) == 201
    for protocol in ("wavespeed", "replicate"):
        ledger, summary = simulator.ledger(protocol=protocol), simulator.summary(protocol)
        for table in ("submits", "tasks", "charges"):
            assert [row["protocol"] for row in ledger[table]] == [protocol]
            assert summary[table] == 1
        assert summary["charged_usd"] == "0.005"
    assert simulator.summary()["charged_usd"] == "0.010"


def test_polls_and_cancels_are_counted(client: Client, simulator: Simulator) -> None:
    task_id = client.submit({"prompt": "x"})["id"]
    for _ in range(3):
        client.result(task_id)
    client.http.post("/replicate/v1/predictions/nobody/cancel")
    assert simulator.summary()["calls"] == {"poll": 3, "cancel": 1, "dead": 0}
    assert simulator.summary("replicate")["calls"] == {"poll": 0, "cancel": 1, "dead": 0}


def test_a_task_is_unknown_to_another_protocol(client: Client) -> None:
    task_id = client.submit({"prompt": "x"})["id"]
    assert client.http.get(f"/replicate/v1/predictions/{task_id}").status_code == 404
    key = {"Authorization": f"Key {client.simulator.api_key}"}
    assert client.http.get(f"/fal/wavespeed-ai/fast-draft/requests/{task_id}", headers=key).status_code == 404

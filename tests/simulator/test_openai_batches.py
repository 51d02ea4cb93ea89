"""The official `openai` package orders pictures by the batch."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from tests.fakes.simulator import Simulator, wait_until


@pytest.fixture
def client(simulator: Simulator) -> Iterator[OpenAI]:
    simulator.settings(drawing="tiny")
    with OpenAI(
        base_url=f"{simulator.base_url}/openai/v1", api_key=simulator.api_key, max_retries=0
    ) as opened:
        yield opened


def line(custom_id: str, prompt: str = "a red fox", **changes: Any) -> str:
    body = {"model": "gpt-image-1.5", "prompt": prompt}
    order = {"custom_id": custom_id, "method": "POST", "url": "/v1/images/generations", "body": body}
    return json.dumps({**order, **changes})


def ordered(client: OpenAI, *lines: str) -> Batch:
    file = client.files.create(file=("orders.jsonl", "\n".join(lines).encode()), purpose="batch")
    return client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/images/generations",
        completion_window="24h",
        metadata={"for": "a test"},
    )


def ended(client: OpenAI, batch: Batch) -> Batch:
    def end() -> Batch | None:
        now = client.batches.retrieve(batch.id)
        return now if now.status in ("completed", "failed", "cancelled") else None

    done: Batch = wait_until(end, timeout_s=20)
    return done


def told(client: OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    """The lines of a result file by their `custom_id`."""
    content = client.files.content(file_id or "").read().decode()
    return {entry["custom_id"]: entry["response"] for entry in map(json.loads, content.splitlines())}


def test_every_line_is_made_once_at_half_the_price(client: OpenAI, simulator: Simulator) -> None:
    batch = ended(client, ordered(client, *(line(f"job-{index}", f"fox {index}") for index in range(20))))
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (
        20,
        20,
        0,
    )
    assert batch.metadata == {"for": "a test"}
    answers = told(client, batch.output_file_id)
    assert set(answers) == {f"job-{index}" for index in range(20)}
    pictures = {answer["body"]["data"][0]["b64_json"] for answer in answers.values()}
    assert len(pictures) == 20
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    assert {float(charge["amount_usd"]) for charge in simulator.ledger()["charges"]} == {0.0125}
    assert len({submit["idempotency_key"] for submit in simulator.ledger()["submits"]}) == 20


def test_lines_that_fail_are_told_apart_and_not_charged(client: OpenAI, simulator: Simulator) -> None:
    lines = [line("good"), line("refused", "x [fault:refused]"), line("broken", "x [fault:failed]")]
    lines.append(line("retired", body={"model": "dall-e-3", "prompt": "x"}))
    batch = ended(client, ordered(client, *lines))
    assert batch.status == "completed"
    assert set(told(client, batch.output_file_id)) == {"good"}
    failures = told(client, batch.error_file_id)
    assert {name: answer["status_code"] for name, answer in failures.items()} == {
        "refused": 400,
        "broken": 500,
        "retired": 404,
    }
    assert failures["refused"]["body"]["error"]["code"] == "moderation_blocked"
    assert len(simulator.ledger()["charges"]) == 1


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ("{", "invalid_json_line"),
        (line(""), "invalid_json_line"),
        (line("b", url="/v1/audio/speech"), "invalid_json_line"),
        (line("a"), "duplicate_custom_id"),
    ],
)
def test_a_line_that_is_no_order_fails_the_whole_before_anything_is_made(
    client: OpenAI, simulator: Simulator, bad: str, code: str
) -> None:
    batch = ended(client, ordered(client, line("a"), bad))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(error.line, error.code) for error in batch.errors.data or []] == [(2, code)]
    assert simulator.ledger()["tasks"] == []


def test_a_canceled_batch_delivers_what_was_begun(client: OpenAI, simulator: Simulator) -> None:
    simulator.settings(time_scale=1)
    lines = [line(f"job-{index}", f"fox {index} [time:0.5]") for index in range(300)]
    batch = ordered(client, *lines)
    wait_until(lambda: simulator.ledger()["tasks"])
    assert client.batches.cancel(batch.id).status == "cancelling"
    done = ended(client, batch)
    assert done.status == "cancelled"
    assert len(told(client, done.output_file_id)) == len(simulator.ledger()["charges"]) == 100
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_what_is_not_there_is_not_found(client: OpenAI) -> None:
    for look in (client.files.retrieve, client.files.content, client.batches.retrieve):
        with pytest.raises(openai.NotFoundError):
            look("nobody")
    with pytest.raises(openai.BadRequestError):
        client.batches.create(
            input_file_id="nobody", endpoint="/v1/images/generations", completion_window="24h"
        )


def test_batches_are_listed_the_latest_first(client: OpenAI) -> None:
    batches = [ordered(client, line("a")), ordered(client, line("b"))]
    listed = [batch.id for batch in client.batches.list()]
    assert listed[:2] == [batches[1].id, batches[0].id]

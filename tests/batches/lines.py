"""Batches as they are sent, and sending them."""

import json
from typing import Any

from tests.factories import Someone, body


def item(number: int, **changes: Any) -> dict[str, Any]:
    """A line that is as good as any: $0.005."""
    return {"custom_id": f"item-{number}", **body(prompt=f"a lighthouse, number {number}"), **changes}


def jsonl(*items: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in items)


def post(
    someone: Someone, content: bytes, query: str = "", kind: str = "application/jsonl", **headers: Any
) -> Any:
    send: Any = someone.api.generic  # its stubs know text only
    return send("POST", f"/v1/batches?{query}", content, content_type=kind, **headers)


def results(someone: Someone, batch_id: str) -> list[dict[str, Any]]:
    answer: Any = someone.api.get(f"/v1/batches/{batch_id}/results")
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/jsonl")
    return [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]

"""POST /v1/batches: every line is checked, all are paid for together, and none is done twice."""

import json
from typing import Any

from apps.batches.models import Batch
from apps.jobs.models import Job
from tests.factories import Someone, body


def item(number: int, **changes: Any) -> dict[str, Any]:
    return {"custom_id": f"item-{number}", **body(prompt=f"a lighthouse, number {number}"), **changes}


def jsonl(*items: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in items)


def post(someone: Someone, content: bytes, query: str = "", kind: str = "application/jsonl", **headers: Any) -> Any:
    return someone.api.generic("POST", f"/v1/batches?{query}", content, content_type=kind, **headers)


def test_lines_become_jobs(pro: Someone) -> None:
    answer = post(pro, jsonl(item(1), item(2)))
    assert answer.status_code == 202, answer.content
    print(answer.json())
    assert Job.objects.count() == 2

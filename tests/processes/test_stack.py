"""The stack that journeys and chaos tests run: real processes, on their own ports, database and Redis."""

import time
from pathlib import Path
from typing import Any

import httpx

from tests.stack import Stack, running_stack


def _finished(client: httpx.Client, job_id: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    while True:
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}", params={"wait": 10}).raise_for_status().json()
        if job["finished_at"]:
            return job
        assert time.monotonic() < until, job


def _submit(stack: Stack, prompt: str) -> str:
    answer = stack.client().post("/v1/jobs", json={"type": "image", "prompt": prompt})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_a_job_survives_a_worker_killed_9_and_is_billed_once(tmp_path: Path) -> None:
    with running_stack(tmp_path, time_scale=0.2) as stack:
        job_id = _submit(stack, "a fox in the snow")
        stack.kill("io")
        stack.redis.flushall()
        stack.restart("io")
        job = _finished(stack.client(), job_id)
        assert job["status"] == "completed", (job, stack.log("io"))
        charged = httpx.get(f"{stack.simulator_url}/admin/summary").json()["charged_usd"]
        spent = stack.client().get("/v1/budget").json()["spent_usd"]
        assert float(charged) == float(spent) == float(job["cost_usd"]) > 0
        assert stack.sql("SELECT count(*) FROM jobs_job WHERE id = %s", job_id) == [(1,)]
        assert stack.client("broke").get("/v1/budget").json()["limit_usd"] == "0"

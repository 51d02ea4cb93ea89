"""GET /v1/jobs/{id}: the job as it is now, or with `?wait=` once it has ended."""

import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from django.conf import LazySettings
from django.db import connections

from apps.core import notify
from apps.jobs import run, schemas
from apps.jobs.models import Job
from tests import factories
from tests.api.shapes import conforms
from tests.factories import Someone, body
from tests.fakes import simulator as fake

Work = Callable[[str], Job]


def submitted(someone: Someone, **changes: Any) -> str:
    job_id: str = someone.api.post("/v1/jobs", body(**changes), format="json").json()["id"]
    return job_id


def test_a_queued_job_shows_what_was_asked_and_decided(pro: Someone) -> None:
    job_id = submitted(pro, prompt=" a fox ", metadata={"a": [1]}, requirements={"quality": 3})
    answer = pro.api.get(f"/v1/jobs/{job_id}").json()
    assert conforms(schemas.JobDetail, answer)
    assert (answer["id"], answer["status"], answer["phase"], answer["progress"]) == (
        job_id,
        "queued",
        "queued",
        0,
    )
    assert (answer["prompt"], answer["metadata"], answer["requirements"]) == (
        "a fox",
        {"a": [1]},
        {"quality": 3},
    )
    assert (answer["params"]["width"], answer["params"]["n"]) == (1024, 1)
    assert answer["selection"]["model"] == "fast-draft"
    assert (answer["attempts"], answer["quality"], answer["outputs"], answer["error"]) == ([], None, [], None)


def test_a_running_job_shows_its_attempt(
    pro: Someone, simulator: fake.Simulator, settings: LazySettings
) -> None:
    settings.PROVIDERS = {"wavespeed": simulator.provider_settings}
    simulator.settings(time_scale=100)
    job_id = submitted(pro)
    run.run(uuid.UUID(job_id))
    answer = pro.api.get(f"/v1/jobs/{job_id}").json()
    assert conforms(schemas.JobDetail, answer)
    assert (answer["status"], answer["cost_usd"], answer["finished_at"]) == ("running", "0", None)
    assert answer["phase"] not in ("queued", "running")
    assert 0 <= answer["progress"] < 1
    [attempt] = answer["attempts"]
    assert (attempt["number"], attempt["provider"], attempt["status"]) == (1, "wavespeed", "submitted")
    assert (attempt["price_usd"], attempt["error"], attempt["finished_at"]) == ("0.005", None, None)
    assert attempt["latency_s"] >= 0


def test_a_completed_job_shows_its_outputs_and_its_cost(pro: Someone, work: Work) -> None:
    work(job_id := submitted(pro, params={"width": 512, "height": 256, "n": 2}))
    answer = pro.api.get(f"/v1/jobs/{job_id}").json()
    assert conforms(schemas.JobDetail, answer)
    assert (answer["status"], answer["progress"], answer["cost_usd"]) == ("completed", 1.0, "0.01")
    assert (answer["cached"], answer["saved_usd"], answer["error"]) == (False, "0", None)
    assert len(answer["outputs"]) == 2
    for output in answer["outputs"]:
        assert (output["width"], output["height"], output["duration_s"]) == (512, 256, None)
        assert output["media_type"] == "image/png"
        got: Any = pro.api.get(output["url"])
        content = b"".join(got.streaming_content)
        assert (got.status_code, len(content)) == (200, output["size_bytes"])
        assert hashlib.sha256(content).hexdigest() == output["sha256"]
    [attempt] = answer["attempts"]
    assert (attempt["status"], attempt["billed"]) == ("accepted", "yes")


def test_a_failed_job_says_why_and_costs_nothing(
    pro: Someone, work: Work, simulator: fake.Simulator, settings: LazySettings
) -> None:
    settings.JOB_MAX_ATTEMPTS = 1
    job_id = submitted(pro)
    simulator.faults("500")
    work(job_id)
    answer = pro.api.get(f"/v1/jobs/{job_id}").json()
    assert conforms(schemas.JobDetail, answer)
    assert (answer["status"], answer["cost_usd"], answer["outputs"]) == ("failed", "0", [])
    assert answer["error"]["code"] == "generation_failed"
    assert answer["error"]["retryable"] is True
    assert answer["attempts"][0]["error"]["kind"]


@pytest.mark.parametrize("path", ["", "/events", "/cancel"])
def test_what_is_not_yours_does_not_exist(pro: Someone, path: str) -> None:
    job_id = submitted(pro)
    for other in (factories.someone(team=pro.user.team), factories.someone()):
        method = other.api.post if path == "/cancel" else other.api.get
        theirs, nobodys = method(f"/v1/jobs/{job_id}{path}"), method(f"/v1/jobs/{uuid.uuid4()}{path}")
        assert (theirs.status_code, nobodys.status_code) == (404, 404)
        assert theirs.content == nobodys.content


# --- ?wait= -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", ["-1", "1.5", "abc", "", "99999", "1e3", "\u0663", "1\x00", "NaN"])
def test_a_bad_wait_is_named(pro: Someone, wait: str) -> None:
    response = pro.api.get(f"/v1/jobs/{submitted(pro)}", {"wait": wait})
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["wait"]


def test_nobody_waits_for_a_job_that_has_ended(pro: Someone, work: Work) -> None:
    work(job_id := submitted(pro))
    began = time.monotonic()
    assert pro.api.get(f"/v1/jobs/{job_id}?wait=30").json()["status"] == "completed"
    assert time.monotonic() - began < 5


@contextmanager
def waiting(someone: Someone, job_id: str, count: int = 1) -> Iterator[list["Future[dict[str, Any]]"]]:
    """`count` requests that wait for the job, each in a thread, once they all do."""

    def get() -> dict[str, Any]:
        try:
            answer: dict[str, Any] = someone.api.get(f"/v1/jobs/{job_id}?wait=30").json()
            return answer
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(get) for _ in range(count)]
        fake.wait_until(
            lambda: len(notify.hub._waiters.get(notify.end_of(job_id), ())) == count, timeout_s=20
        )
        yield asked


@pytest.mark.django_db(transaction=True)
def test_a_waiter_is_woken_when_the_job_ends(pro: Someone, work: Work) -> None:
    job_id = submitted(pro)
    with waiting(pro, job_id) as [asked]:
        began = time.monotonic()
        work(job_id)
        assert asked.result(timeout=20)["status"] == "completed"
        assert time.monotonic() - began < 10


@pytest.mark.django_db(transaction=True)
def test_waiters_hold_no_connection(pro: Someone, work: Work, settings: LazySettings) -> None:
    """More of them than the pool has connections, and the next request is served at once."""
    job_id = submitted(pro)
    pool_size = settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
    with waiting(pro, job_id, count=2 * pool_size) as asked:
        assert pro.api.post("/v1/jobs", body(prompt="another"), format="json").status_code == 202
        work(job_id)
        assert {future.result(timeout=20)["status"] for future in asked} == {"completed"}


@pytest.mark.django_db(transaction=True)
def test_when_the_time_is_up_the_job_is_shown_as_it_is(pro: Someone) -> None:
    began = time.monotonic()
    assert pro.api.get(f"/v1/jobs/{submitted(pro)}?wait=1").json()["status"] == "queued"
    assert 1 <= time.monotonic() - began < 5


@pytest.mark.django_db(transaction=True)
def test_the_server_bounds_the_wait(pro: Someone, settings: LazySettings) -> None:
    settings.WAIT_MAX_S = 0.2
    began = time.monotonic()
    assert pro.api.get(f"/v1/jobs/{submitted(pro)}?wait=9999").json()["status"] == "queued"
    assert time.monotonic() - began < 5


@pytest.mark.django_db(transaction=True)
def test_beyond_the_places_the_answer_comes_at_once(
    pro: Someone, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "hub", notify.Hub(1))
    job_id = submitted(pro)
    with waiting(pro, job_id) as [asked]:
        began = time.monotonic()
        assert pro.api.get(f"/v1/jobs/{job_id}?wait=30").json()["status"] == "queued"
        assert time.monotonic() - began < 5
        work(job_id)
        assert asked.result(timeout=20)["status"] == "completed"
    with notify.hub.place(uuid.uuid4()) as place:
        assert place is not None  # given back
    notify.hub.close()


# --- Events -----------------------------------------------------------------------------------


def test_the_events_are_the_changes_of_status_in_order(pro: Someone, work: Work) -> None:
    work(job_id := submitted(pro))
    answer = pro.api.get(f"/v1/jobs/{job_id}/events").json()
    assert conforms(schemas.Events, answer)
    moves = [(event["from_status"], event["to_status"]) for event in answer["data"]]
    assert moves == [("", "queued"), ("queued", "running"), ("running", "completed")]
    times = [event["at"] for event in answer["data"]]
    assert times == sorted(times)


def stream(live_server: Any, someone: Someone, job_id: str, seen: Callable[[str], object]) -> list[str]:
    """All lines of the job's event stream; each is told to `seen` as it comes."""
    headers = {"Authorization": f"Bearer {someone.key}", "Accept": "text/event-stream"}
    lines = []
    address = f"{live_server.url}/v1/jobs/{job_id}/events"
    with httpx.stream("GET", address, headers=headers, timeout=20, trust_env=False) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        for line in response.iter_lines():
            lines.append(line)
            seen(line)
    return lines


def test_the_stream_tells_the_news_until_the_end(pro: Someone, work: Work, live_server: Any) -> None:
    job_id = submitted(pro)
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        lines = pool.submit(stream, live_server, pro, job_id, lambda _: begun.set())
        assert begun.wait(20)
        work(job_id)
        text = "\n".join(lines.result(timeout=20))
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names[0] == "job"
    assert names[-1] == "end"
    assert names.count("end") == 1
    *_, last = [line for line in text.splitlines() if line.startswith("data: ")]
    assert conforms(schemas.Job, httpx.Response(200, text=last.removeprefix("data: ")).json())
    assert '"status": "completed"' in last


def test_the_stream_of_an_ended_job_ends_at_once(pro: Someone, work: Work, live_server: Any) -> None:
    work(job_id := submitted(pro))
    lines = stream(live_server, pro, job_id, str)
    assert [line for line in lines if line.startswith("event: ")] == ["event: end"]


def test_a_quiet_stream_is_kept_open(
    pro: Someone, work: Work, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.jobs.views._HEARTBEAT_S", 0.05)
    job_id = submitted(pro)
    quiet = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        lines = pool.submit(
            stream, live_server, pro, job_id, lambda line: quiet.set() if line.startswith(":") else None
        )
        assert quiet.wait(20)
        work(job_id)
        assert "event: end" in lines.result(timeout=20)


def test_beyond_the_places_a_stream_tells_once_and_ends(
    pro: Someone, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "hub", notify.Hub(0))
    lines = stream(live_server, pro, submitted(pro), str)
    assert [line for line in lines if line.startswith("event: ")] == ["event: job"]


def test_streams_hold_no_connection(
    pro: Someone, work: Work, live_server: Any, settings: LazySettings
) -> None:
    """More of them than the pool has connections, and the next request is served at once."""
    job_id = submitted(pro)
    count = 2 * settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
    with ThreadPoolExecutor(count) as pool:
        streams = [pool.submit(stream, live_server, pro, job_id, str) for _ in range(count)]
        fake.wait_until(lambda: len(notify.hub._waiters.get(job_id, ())) == count, timeout_s=20)
        assert pro.api.post("/v1/jobs", body(prompt="another"), format="json").status_code == 202
        work(job_id)
        assert all("event: end" in lines.result(timeout=20) for lines in streams)

"""What becomes of a batch: its counters, its results, and its one end."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections

from apps.batches import cancel, roll_up, sweep
from apps.batches.models import Batch, Tally
from apps.batches.schemas import BatchDetail, BatchPage, ItemResult
from apps.core import clock, notify
from apps.jobs import cancel as job_cancel
from apps.jobs import flush, leases
from apps.jobs.models import Job
from apps.ledger import many
from apps.webhooks.models import Delivery, Endpoint, Event
from tests.api.shapes import conforms
from tests.batches.lines import item, jsonl, post, results
from tests.factories import Someone
from tests.fakes.simulator import wait_until

Work = Callable[[str], Job]
HOOK = "https://example.com/batch"


@pytest.fixture
def told(pro: Someone) -> Callable[[], list[tuple[str, str]]]:
    """Every event so far, with where it goes."""
    deliveries = Delivery.objects.order_by("id").values_list("event__type", "url")
    return lambda: list(deliveries.all())


def begin(someone: Someone, count: int, query: str = f"callback_url={HOOK}", **changes: Any) -> list[Job]:
    answer = post(someone, jsonl(*(item(number, **changes) for number in range(count))), query)
    assert answer.status_code == 202, answer.content
    return list(Job.objects.filter(batch_id=answer.json()["id"]).order_by("id"))


def running(jobs: list[Job]) -> list[Job]:
    """The jobs, gathered long enough: their provider has no batches, so that each is run by itself."""
    for route_id in {job.batch_route for job in jobs if job.batch_route}:
        flush.flush(route_id)
    return jobs


def shown(someone: Someone, job: Job) -> dict[str, Any]:
    answer = someone.api.get(f"/v1/batches/{job.batch_id}")
    assert conforms(BatchDetail, answer.json())
    found: dict[str, Any] = answer.json()
    return found


def counts(someone: Someone, job: Job) -> tuple[int, ...]:
    """Completed, failed, canceled, expired."""
    found = shown(someone, job)["counts"]
    return found["completed"], found["failed"], found["canceled"], found["expired"]


def claimed(job: Job) -> Job:
    """The job in a worker's hands."""
    with clock.frozen(max(clock.now(), job.due_at or clock.now())):
        held = leases.claim(job.pk)
    assert held
    return held


@pytest.mark.django_db(transaction=True)
def test_it_ends_with_its_last_item_and_says_so_once(
    pro: Someone, work: Work, told: Callable[[], list[tuple[str, str]]]
) -> None:
    assert pro.user.team_id
    Endpoint.objects.create(team_id=pro.user.team_id, url="https://example.com/hook")
    jobs = running(begin(pro, 3))
    assert results(pro, str(jobs[0].batch_id)) == []
    work(str(jobs[1].pk))
    half = shown(pro, jobs[0])
    assert (half["status"], half["progress"], half["held_usd"], half["cost_usd"]) == (
        "in_progress",
        0.3333,
        "0.01",
        "0.005",
    )
    assert half["estimated_end_at"] is not None
    [line] = results(pro, str(jobs[0].batch_id))
    assert conforms(ItemResult, line)
    assert (line["custom_id"], line["status"], line["cost_usd"]) == ("item-1", "completed", "0.005")
    file: Any = pro.api.get(line["outputs"][0]["url"].removeprefix("http://127.0.0.1:8000"))
    assert len(b"".join(file.streaming_content)) == line["outputs"][0]["size_bytes"]
    file.close()
    assert told() == []
    for job in (jobs[2], jobs[0]):
        work(str(job.pk))
    sweep.sweep()
    whole = shown(pro, jobs[0])
    assert (whole["status"], whole["progress"], whole["held_usd"], whole["cost_usd"]) == (
        "completed",
        1.0,
        "0",
        "0.015",
    )
    assert [line["custom_id"] for line in results(pro, whole["id"])] == ["item-0", "item-1", "item-2"]
    assert told() == [("batch.completed", HOOK), ("batch.completed", "https://example.com/hook")]
    data = Event.objects.get().payload["data"]
    assert (data["id"], data["counts"]["completed"], data["status"]) == (whole["id"], 3, "completed")


@pytest.mark.django_db(transaction=True)
def test_of_many_that_see_the_last_end_one_ends_it(
    pro: Someone, told: Callable[[], list[tuple[str, str]]]
) -> None:
    jobs = begin(pro, 40)
    start = threading.Barrier(8)

    def end_some(part: int) -> None:
        start.wait()
        try:
            for job in jobs[part::8]:
                Job.objects.filter(pk=job.pk).update(
                    status="completed", due_at=None, finished_at=clock.now(), priority="batch"
                )
                roll_up.of(job.batch_id)  # type: ignore[arg-type]  # an item has one
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(end_some, range(8)))
    batch = Batch.objects.get()
    assert (batch.status, batch.completed, batch.held_usd) == ("completed", 40, Decimal(0))
    assert (Tally.objects.count(), told()) == (0, [("batch.completed", HOOK)])
    # They were ended without `settle`: for the books.
    assert many.release([job.pk for job in jobs], reason="ended") == 40


@pytest.mark.django_db(transaction=True)
def test_canceled_midway_it_keeps_what_is_done_and_frees_the_rest(
    pro: Someone, work: Work, told: Callable[[], list[tuple[str, str]]]
) -> None:
    done, begun, *queued = running(begin(pro, 5))
    work(str(done.pk))
    held = claimed(begun)
    first = pro.api.post(f"/v1/batches/{done.batch_id}/cancel")
    assert (first.status_code, first.json()["status"]) == (202, "canceling")
    cancel.carry_out(done.batch_id)  # type: ignore[arg-type]  # an item has one
    assert counts(pro, done) == (1, 0, len(queued), 0)
    assert pro.budget["held_usd"] == "0.005"
    assert (shown(pro, done)["status"], told()) == ("canceling", [])
    assert {Job.objects.get(pk=job.pk).status for job in queued} == {"canceled"}
    held.refresh_from_db()
    assert held.cancel_requested_at
    with clock.frozen(held.lease_expires_at or clock.now()):
        work(str(begun.pk))
    assert counts(pro, done) == (1, 0, 4, 0)
    assert (shown(pro, done)["status"], told()) == ("canceled", [("batch.canceled", HOOK)])
    assert (pro.budget["held_usd"], pro.budget["spent_usd"]) == ("0", "0.005")
    again = pro.api.post(f"/v1/batches/{done.batch_id}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "canceled")
    assert [line["status"] for line in results(pro, str(done.batch_id))] == ["completed"] + ["canceled"] * 4


@pytest.mark.parametrize("ended", ["canceled", "failed"])
@pytest.mark.django_db(transaction=True)
def test_who_waits_for_an_item_or_for_the_batch_is_woken_when_all_end_together(
    pro: Someone, ended: str
) -> None:
    first, second = begin(pro, 2, "completion_window=1h")
    batch = f"/v1/batches/{first.batch_id}"
    stream = {"Accept": "text/event-stream"}

    def asked(path: str, headers: dict[str, str] | None = None) -> str:
        try:
            answer: Any = pro.api.get(path, headers=headers)
            return b"".join(answer).decode()
        finally:
            connections.close_all()

    def waiting() -> set[str]:
        return {word.partition(":")[0] for word, events in notify.hub._waiters.items() if events}

    with ThreadPoolExecutor(3) as pool:
        item = pool.submit(asked, f"/v1/jobs/{first.pk}?wait=30")
        news = pool.submit(asked, f"/v1/jobs/{second.pk}/events", stream)
        whole = pool.submit(asked, f"{batch}?wait=30")
        wait_until(lambda: waiting() >= {str(first.pk), str(second.pk), str(first.batch_id)})
        began = time.monotonic()
        if ended == "canceled":
            cancel.ask(first.batch_id)  # type: ignore[arg-type]  # an item has one
            sweep.sweep()
        else:
            with clock.frozen(clock.now() + timedelta(minutes=61)):
                sweep.sweep()
        assert json.loads(item.result(timeout=20))["status"] == ended
        assert news.result(timeout=20).splitlines()[-3] == "event: end"
        assert json.loads(whole.result(timeout=20))["finished_at"]
        assert time.monotonic() - began < 10


def test_a_cancel_whose_ring_was_lost_is_carried_out_by_the_sweep(pro: Someone) -> None:
    job, *_ = begin(pro, 3)
    cancel.ask(job.batch_id)  # type: ignore[arg-type]  # an item has one
    sweep.sweep()
    assert shown(pro, job)["status"] == "canceled"
    assert pro.budget["held_usd"] == "0"


@pytest.mark.django_db(transaction=True)
def test_when_its_time_is_over_what_is_done_is_delivered_and_the_rest_freed(
    pro: Someone, work: Work, told: Callable[[], list[tuple[str, str]]]
) -> None:
    done, begun, *_ = running(begin(pro, 4, f"callback_url={HOOK}&completion_window=1h"))
    work(str(done.pk))
    claimed(begun)
    with clock.frozen(clock.now() + timedelta(minutes=59)):
        sweep.sweep()
    assert counts(pro, done) == (1, 0, 0, 0)
    with clock.frozen(clock.now() + timedelta(minutes=61)):
        sweep.sweep()
        assert counts(pro, done) == (1, 0, 0, 2)
        work(str(begun.pk))
        sweep.sweep()
        assert counts(pro, done) == (1, 0, 0, 3)
        assert (shown(pro, done)["status"], told()) == ("expired", [("batch.expired", HOOK)])
        assert (pro.budget["held_usd"], pro.budget["spent_usd"]) == ("0", "0.005")
        lines = results(pro, str(done.batch_id))
    assert [line["status"] for line in lines] == ["completed", "failed", "failed", "failed"]
    assert {line["error"]["code"] for line in lines[1:]} == {"deadline_exceeded"}


def test_an_item_that_names_its_own_url_is_told_there(
    pro: Someone, told: Callable[[], list[tuple[str, str]]]
) -> None:
    jobs = begin(pro, 1, "", callback_url="https://example.com/item")
    cancel.ask(jobs[0].batch_id)  # type: ignore[arg-type]  # an item has one
    sweep.sweep()
    assert told() == [("job.canceled", "https://example.com/item")]


@pytest.mark.django_db(transaction=True)
def test_one_item_canceled_by_itself_cancels_no_batch(pro: Someone, work: Work) -> None:
    first, second = running(begin(pro, 2))
    job_cancel.ask(first.pk)
    for job in (first, second):
        work(str(job.pk))
    assert counts(pro, first) == (1, 0, 1, 0)
    assert shown(pro, first)["status"] == "completed"


def test_the_list_is_read_page_by_page(pro: Someone) -> None:
    made = [begin(pro, 1, "", prompt=str(number))[0].batch_id for number in range(3)]
    page = pro.api.get("/v1/batches", {"page_size": 2}).json()
    assert conforms(BatchPage, page)
    rest = pro.api.get("/v1/batches", {"page_size": 2, "cursor": page["next"]}).json()
    assert [each["id"] for each in page["data"] + rest["data"]] == [str(one) for one in reversed(made)]
    assert rest["next"] is None
    for query in ({"cursor": "x"}, {"page_size": "0"}, {"status": "completed"}):
        assert pro.api.get("/v1/batches", query).status_code == 422

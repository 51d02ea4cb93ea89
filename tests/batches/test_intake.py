"""POST /v1/batches: every line is checked, all are paid for together, and none is done twice."""

import io
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from apps.batches import intake, sweep, upload
from apps.batches.models import Batch, Refusal
from apps.batches.schemas import BatchDetail
from apps.core import clock
from apps.jobs.models import Job
from apps.ledger.models import Entry, Hold
from tests import factories
from tests.api.shapes import conforms
from tests.batches.lines import item, jsonl, post, results
from tests.factories import Someone

Stored = Callable[[], tuple[int, int, int]]
NOTHING = (0, 0, 0)


def faults(answer: Any) -> list[tuple[int, str | None, str, str]]:
    assert (answer.status_code, answer.json()["code"]) == (422, "batch_invalid"), answer.content
    return [(one["line"], one["custom_id"], one["field"], one["code"]) for one in answer.json()["errors"]]


def refused(answer: Any) -> tuple[int, str, str]:
    """Status, code and the field named."""
    found = answer.json()
    return answer.status_code, found["code"], found.get("errors", [{"field": ""}])[0]["field"]


# --- What becomes of the lines ----------------------------------------------------------------


def test_each_line_becomes_a_job_of_the_batch(pro: Someone) -> None:
    query = "metadata=%7B%22order%22%3A%207%7D&completion_window=2h"
    answer = post(pro, jsonl(item(1, metadata={"a": 1}), item(2, params={"n": 2})), query)
    assert answer.status_code == 202
    document = answer.json()
    assert conforms(BatchDetail, document)
    assert answer["Location"] == document["urls"]["self"] == f"/v1/batches/{document['id']}"
    assert (document["status"], document["counts"]["total"], document["metadata"]) == (
        "in_progress",
        2,
        {"order": 7},
    )
    assert (document["estimated_cost_usd"], document["held_usd"]) == ("0.015", "0.015")
    assert pro.budget["held_usd"] == "0.015"
    first, second = Job.objects.filter(batch_id=document["id"]).order_by("id")
    assert (first.custom_id, second.custom_id, first.metadata) == ("item-1", "item-2", {"a": 1})
    assert {first.priority, second.priority} == {"batch"}
    batch = Batch.objects.get()
    assert first.deadline_at == batch.expires_at == batch.created_at + timedelta(hours=2)
    listed = pro.api.get("/v1/jobs", {"batch_id": document["id"]}).json()["data"]
    assert [(job["custom_id"], job["batch_id"]) for job in listed] == [
        ("item-2", document["id"]),
        ("item-1", document["id"]),
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_blank_lines_other_line_ends_and_a_byte_order_mark_are_no_items(pro: Someone, end: bytes) -> None:
    lines = [b"\xef\xbb\xbf" + json.dumps(item(1)).encode(), b"", b"  \t", json.dumps(item(2)).encode()]
    assert post(pro, end.join(lines)).json()["counts"]["total"] == 2
    assert faults(post(pro, end.join([*lines, b"{"]))) == [(5, None, "body", "malformed_request")]


def test_an_array_and_a_file_of_a_form_are_as_good_as_lines(pro: Someone) -> None:
    array = post(pro, json.dumps([item(1), item(2)]).encode(), kind="application/json")
    assert array.json()["counts"]["total"] == 2
    file = SimpleUploadedFile("items.jsonl", jsonl(item(3), item(4), {}), "application/jsonl")
    form = {"file": file, "partial": "true", "metadata": '{"a": 1}'}
    sent = pro.api.post("/v1/batches", form, format="multipart")
    assert (sent.status_code, sent.json()["counts"]["total"], sent.json()["metadata"]) == (202, 2, {"a": 1})


def test_the_elements_of_an_array_come_whole_however_it_is_cut(pro: Someone) -> None:
    """Longer than what is read at once: an element lies across two pieces."""
    items = [item(number, prompt="ä" * 9_000 + str(number)) for number in range(20)]
    answer = post(pro, json.dumps(items, indent=1, ensure_ascii=False).encode(), kind="application/json")
    assert answer.json()["counts"]["total"] == 20
    assert {len(job.prompt) for job in Job.objects.all()} == {9_001, 9_002}


def test_what_the_cache_has_is_served_at_once(pro: Someone, work: Callable[[str], Job]) -> None:
    first = pro.api.post("/v1/jobs", item(1) | {"custom_id": None}, format="json")
    assert first.status_code == 422
    job_id = pro.api.post("/v1/jobs", {k: v for k, v in item(1).items() if k != "custom_id"}, format="json")
    assert work(job_id.json()["id"]).status == "completed"
    answer = post(pro, jsonl(item(1), item(2))).json()
    assert (answer["counts"]["completed"], answer["counts"]["cached"]) == (1, 1)
    assert (answer["saved_usd"], answer["held_usd"]) == ("0.005", "0.005")
    assert [line["cached"] for line in results(pro, answer["id"])] == [True]
    whole = post(pro, jsonl(item(1))).json()
    assert (whole["status"], whole["progress"], whole["cost_usd"]) == ("completed", 1.0, "0")


def test_equal_items_are_bought_once(pro: Someone) -> None:
    post(pro, jsonl(item(1), {**item(1), "custom_id": "again"}, {**item(1), "custom_id": "and-again"}))
    flights = Job.objects.order_by("id").values_list("custom_id", "flight")
    assert list(flights) == [("item-1", "leads"), ("again", "follows"), ("and-again", "follows")]
    post(pro, jsonl(item(1)))
    assert Job.objects.order_by("id").last().flight == "follows"  # type: ignore[union-attr]  # there is one


def test_what_is_written_in_a_line_is_stored_to_the_letter(pro: Someone) -> None:
    """The rows are copied in a format in which tabs, line ends and backslashes have a meaning."""
    odd = "tab\\t line\nand\ttab \\N \\. \\\\ 'quotes\" {braces} , ünï 木 🙂"
    metadata = {"odd\\": [odd, None, {"a": "\r\n\\."}], "empty": {}}
    post(pro, jsonl(item(1, prompt=odd, metadata=metadata, custom_id=odd)))
    job = Job.objects.get()
    assert (job.prompt, job.metadata, job.custom_id) == (odd, metadata, odd)


def test_many_items_cost_no_more_statements_than_one(pro: Someone) -> None:
    post(pro, jsonl(item(-1)))

    def statements(count: int) -> int:
        with CaptureQueriesContext(connection) as found:
            post(pro, jsonl(*(item(number, prompt=f"{count} of {number}") for number in range(count))))
        return len(found)

    # Now and then one of them reads the catalog anew.
    assert max(statements(200), statements(1)) < 30


# --- Refused ----------------------------------------------------------------------------------


def test_every_bad_line_is_named_and_nothing_is_stored(pro: Someone, stored: Stored) -> None:
    lines = [
        json.dumps(item(1)),
        json.dumps(item(2, params={"width": 1})),
        '{"custom_id": "item-3", "type": "image"',
        json.dumps(item(1)),
        json.dumps({**item(5), "custom_id": ""}),
        json.dumps(item(6, model="nope")),
        json.dumps(item(7, priority="interactive")),
        json.dumps(item(8, prompt="  ")),
        '["no object"]',
        "[" * 10_000,
        json.dumps(item(11, callback_url="http://10.0.0.1/hook")),
        '{"custom_id": "\\ud800"}',
        json.dumps(item(13, cost="0")),
    ]
    assert faults(post(pro, "\n".join(lines).encode() + b"\n" + b'{"custom_id": "\xff"}')) == [
        (2, "item-2", "params.width", "greater_than_equal"),
        (3, None, "body", "malformed_request"),
        (4, "item-1", "custom_id", "duplicate"),
        (5, None, "custom_id", "string_too_short"),
        (6, "item-6", "model", "model_not_found"),
        (7, "item-7", "priority", "literal_error"),
        (8, "item-8", "prompt", "blank"),
        (9, None, "body", "model_type"),
        (10, None, "body", "malformed_request"),
        (11, "item-11", "callback_url", "unsafe_url"),
        (12, None, "custom_id", "bad_character"),
        (13, "item-13", "cost", "extra_forbidden"),
        (14, None, "body", "malformed_request"),
    ]
    assert (stored(), Batch.objects.count()) == (NOTHING, 0)


def test_a_line_may_be_as_long_as_the_body_of_a_job(pro: Someone, stored: Stored) -> None:
    giant = json.dumps(item(1, prompt="x" * upload.MAX_ITEM_BYTES)).encode()
    assert faults(post(pro, giant)) == [(1, None, "body", "request_too_large")]
    assert faults(post(pro, giant + b"\n" + jsonl(item(2), {}))) == [
        (1, None, "body", "request_too_large"),
        (3, None, "type", "missing"),
        (3, None, "prompt", "missing"),
        (3, None, "custom_id", "missing"),
    ]
    assert stored() == NOTHING


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        (b"", "application/jsonl", (411, "length_required", "")),
        (b"\n\n", "application/jsonl", (422, "invalid_request", "items")),
        (b"[]", "application/json", (422, "invalid_request", "items")),
        (b"{}", "application/json", (400, "malformed_request", "")),
        (b'[{"a": 1}', "application/json", (400, "malformed_request", "")),
        (b'[{"a": 1} {}]', "application/json", (400, "malformed_request", "")),
        (b"[{}] []", "application/json", (400, "malformed_request", "")),
        (b'["\xff"]', "application/json", (400, "malformed_request", "")),
        (b"[" * 100_000, "application/json", (400, "malformed_request", "")),
        (b"a,b", "text/csv", (415, "unsupported_media_type", "")),
        (b"{}", "application/jsonl; charset=latin-1", (415, "unsupported_media_type", "")),
        (b"no form", "multipart/form-data; boundary=x", (422, "invalid_request", "file")),
        (b"no form", "multipart/form-data", (400, "malformed_request", "")),
    ],
)
def test_what_is_no_batch_is_refused(
    pro: Someone, stored: Stored, content: bytes, kind: str, expected: tuple[int, str, str]
) -> None:
    answer = post(pro, content, kind=kind)
    assert refused(answer) == expected, answer.content
    assert stored() == NOTHING


def test_a_body_beyond_the_limit_is_not_read(pro: Someone) -> None:
    answer = post(pro, b"{}", CONTENT_LENGTH=str(upload.MAX_BYTES + 1))
    assert refused(answer) == (413, "request_too_large", "")
    assert "200 MB" in answer.json()["detail"]
    cut: dict[str, Any] = {"CONTENT_LENGTH": "5", "wsgi.input": io.BytesIO(b"{}")}
    assert refused(post(pro, b"{}", **cut))[:2] == (400, "malformed_request")
    assert refused(post(pro, b"{}", HTTP_TRANSFER_ENCODING="chunked"))[:2] == (411, "length_required")


def test_too_many_items_are_refused(pro: Someone, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_ITEMS", 3)
    assert refused(post(pro, jsonl(*map(item, range(4))))) == (422, "invalid_request", "items")
    small = factories.someone(tier=factories.tier(max_batch_items=2))
    assert refused(post(small, jsonl(*map(item, range(3))))) == (422, "invalid_request", "items")
    assert stored() == NOTHING
    assert post(small, jsonl(item(1))).status_code == 202
    full = post(small, jsonl(item(2), item(3)))
    assert (full.status_code, full.json()["code"], full.json()["limit"]) == (429, "queue_full", 2)
    assert post(small, jsonl(item(4))).status_code == 202


def test_items_are_not_counted_among_the_open_jobs() -> None:
    small = factories.someone(tier=factories.tier(max_open_jobs=1))
    assert post(small, jsonl(*map(item, range(5)))).status_code == 202
    assert small.api.post("/v1/jobs", factories.body(), format="json").status_code == 202
    assert small.api.post("/v1/jobs", factories.body(prompt="more"), format="json").status_code == 429


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("partial=maybe", "partial"),
        ("metadata=[", "metadata"),
        ("metadata=7", "metadata"),
        ("completion_window=1d", "completion_window"),
        ("completion_window=169h", "completion_window"),
        ("callback_url=http://10.0.0.1/", "callback_url"),
        ("status=completed", "status"),
    ],
)
def test_a_bad_option_is_named(pro: Someone, stored: Stored, query: str, field: str) -> None:
    assert refused(post(pro, jsonl(item(1)), query)) == (422, "invalid_request", field)
    assert stored() == NOTHING


# --- Money ------------------------------------------------------------------------------------


def poor(**limits: Any) -> Someone:
    return factories.someone(tier=factories.tier(**limits))


def test_a_batch_that_the_budget_does_not_cover_is_refused_as_a_whole(stored: Stored) -> None:
    answer = post(poor(monthly_budget_usd=Decimal("0.014")), jsonl(*map(item, range(3))))
    assert (answer.status_code, answer.json()["code"]) == (402, "budget_exceeded")
    assert (answer.json()["scope"], answer.json()["requested"]) == ("user_month", "0.015")
    assert (stored(), Batch.objects.count()) == (NOTHING, 0)
    dear = post(poor(max_job_usd=Decimal("0.006")), jsonl(item(1), item(2, params={"n": 2})))
    assert (dear.status_code, dear.json()["scope"]) == (402, "job")
    assert stored() == NOTHING


def test_in_part_the_good_lines_run_as_far_as_the_budget_goes() -> None:
    someone = poor(monthly_budget_usd=Decimal("0.014"))
    lines = [item(1), item(2, prompt=""), item(3, params={"n": 2}), item(4), item(5)]
    answer = post(someone, jsonl(*lines), "partial=true")
    assert answer.status_code == 202
    document = answer.json()
    # The third needs 0.01, more than the 0.009 that are left; what comes after it fits.
    assert (document["counts"]["total"], document["counts"]["refused"]) == (2, 3)
    assert document["held_usd"] == document["estimated_cost_usd"] == someone.budget["held_usd"] == "0.01"
    errors = [(error["line"], error["custom_id"], error["code"]) for error in document["errors"]]
    assert errors == [
        (2, "item-2", "blank"),
        (3, "item-3", "budget_exceeded"),
        (5, "item-5", "budget_exceeded"),
    ]
    assert [(line["custom_id"], line["status"]) for line in results(someone, document["id"])] == [
        ("item-2", "refused"),
        ("item-3", "refused"),
        ("item-5", "refused"),
    ]
    assert set(Job.objects.values_list("custom_id", flat=True)) == {"item-1", "item-4"}


def test_in_part_nothing_is_still_nothing(stored: Stored) -> None:
    someone = poor(monthly_budget_usd=Decimal("0.004"))
    assert post(someone, jsonl(item(1)), "partial=true").json()["code"] == "budget_exceeded"
    assert faults(post(someone, jsonl({}), "partial=true"))[0][0] == 1
    assert (stored(), Batch.objects.count(), Refusal.objects.count()) == (NOTHING, 0, 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("partial", [False, True])
def test_batches_at_once_never_overspend(partial: bool) -> None:
    """Six of $0.05 each for $0.12: as a whole two fit; in part all of it is used."""
    someone, start = poor(monthly_budget_usd=Decimal("0.12")), threading.Barrier(6)

    def send(number: int) -> int:
        lines = (item(each, prompt=f"{number} of {each}") for each in range(10))
        start.wait()
        try:
            status: int = post(someone, jsonl(*lines), f"partial={str(partial).lower()}").status_code
            return status
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        answers = sorted(pool.map(send, range(6)))
    assert answers == ([202] * 3 + [402] * 3 if partial else [202] * 2 + [402] * 4)
    assert someone.budget["held_usd"] == ("0.12" if partial else "0.1")
    assert Job.objects.count() == (24 if partial else 20)


# --- Once -------------------------------------------------------------------------------------


def test_the_same_batch_is_replayed_byte_for_byte(pro: Someone, stored: Stored) -> None:
    content = jsonl(item(1), {}, item(2))
    first = post(pro, content, "partial=true", HTTP_IDEMPOTENCY_KEY="night-7")
    before = stored()
    again = post(pro, content, "partial=true", HTTP_IDEMPOTENCY_KEY="night-7")
    assert (again.status_code, again.content, again["Location"]) == (202, first.content, first["Location"])
    assert ("Idempotent-Replayed" in first, again["Idempotent-Replayed"]) == (False, "true")
    for other, query in ((jsonl(item(1)), "partial=true"), (content, "partial=true&completion_window=1h")):
        answer = post(pro, other, query, HTTP_IDEMPOTENCY_KEY="night-7")
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert stored() == before
    with clock.frozen(clock.now() + timedelta(days=31)):
        assert sweep.old_idempotency_keys() == 1
        assert "Idempotent-Replayed" not in post(pro, content, "partial=true", HTTP_IDEMPOTENCY_KEY="night-7")


@pytest.mark.django_db(transaction=True)
def test_ten_at_once_with_one_key_are_one_batch(pro: Someone) -> None:
    start, content = threading.Barrier(10), jsonl(*map(item, range(20)))

    def send(_: int) -> tuple[int, bytes]:
        start.wait()
        try:
            answer = post(pro, content, HTTP_IDEMPOTENCY_KEY="at-once")
            return answer.status_code, answer.content
        finally:
            connections.close_all()

    with ThreadPoolExecutor(10) as pool:
        answers = set(pool.map(send, range(10)))
    assert len(answers) == 1
    assert answers.pop()[0] == 202
    assert (Batch.objects.count(), Job.objects.count(), Hold.objects.count(), Entry.objects.count()) == (
        1,
        20,
        20,
        20,
    )

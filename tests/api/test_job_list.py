"""GET /v1/jobs: every job of the caller once, newest first, page by page."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.core import clock
from apps.jobs import schemas
from apps.jobs.models import Job
from tests import factories
from tests.api.shapes import conforms
from tests.factories import Someone, body

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)


def submitted(someone: Someone, **changes: Any) -> str:
    job_id: str = someone.api.post("/v1/jobs", body(**changes), format="json").json()["id"]
    return job_id


def ids(someone: Someone, **query: Any) -> list[str]:
    response = someone.api.get("/v1/jobs", query)
    assert response.status_code == 200, response.content
    return [job["id"] for job in response.json()["data"]]


def test_the_newest_comes_first_in_the_shape_of_an_accepted_job(pro: Someone) -> None:
    assert pro.api.get("/v1/jobs").json() == {"data": [], "next": None}
    made = [submitted(pro, prompt=f"{number}") for number in range(3)]
    answer = pro.api.get("/v1/jobs").json()
    assert conforms(schemas.JobPage, answer)
    assert [job["id"] for job in answer["data"]] == made[::-1]
    assert answer["next"] is None


def test_pages_have_no_gaps_and_no_doubles_while_jobs_come_in(pro: Someone) -> None:
    made = [submitted(pro, prompt=f"{number}") for number in range(7)]
    seen, cursor, sizes = [], {}, []
    while True:
        page = pro.api.get("/v1/jobs", {"page_size": 3, **cursor}).json()
        seen += [job["id"] for job in page["data"]]
        sizes.append(len(page["data"]))
        submitted(pro, prompt="comes in meanwhile")
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == made[::-1]
    assert sizes == [3, 3, 1]


def test_a_page_that_is_just_full_is_the_last(pro: Someone) -> None:
    for number in range(2):
        submitted(pro, prompt=f"{number}")
    assert pro.api.get("/v1/jobs", {"page_size": 2}).json()["next"] is None


def test_nobody_elses_jobs_are_in_it(pro: Someone) -> None:
    mine = submitted(pro)
    colleague, stranger = factories.someone(team=pro.user.team), factories.someone()
    theirs = submitted(colleague), submitted(stranger)
    assert (ids(pro), ids(colleague), ids(stranger)) == ([mine], [theirs[0]], [theirs[1]])
    # Nor behind somebody else's cursor.
    assert ids(pro, cursor=theirs[1]) == [mine]


def test_it_filters(pro: Someone, work: Callable[[str], Job]) -> None:
    with clock.frozen(NOON):
        image = submitted(pro)
    with clock.frozen(NOON + timedelta(hours=1)):
        video = submitted(pro, type="video", model="clip")
    work(image)
    assert ids(pro, status="completed") == [image]
    assert ids(pro, status="queued") == [video]
    assert ids(pro, status="failed") == []
    assert ids(pro, type="video") == [video]
    assert ids(pro, type="audio") == []
    assert ids(pro, model="fast-draft") == [image]
    assert ids(pro, model="no-such") == []
    assert ids(pro, created_after="2027-03-01T12:00:00Z") == [video]
    assert ids(pro, created_before="2027-03-01T14:00:00+01:00") == [image]
    assert ids(pro, created_after="2027-03-01T11:59:59Z", created_before="2027-03-01T12:30:00Z") == [image]
    assert ids(pro, type="image", status="queued") == []


@pytest.mark.parametrize("size", ["1", "200"])
def test_page_sizes_from_1_to_200_are_given(pro: Someone, size: str) -> None:
    submitted(pro)
    assert len(ids(pro, page_size=size)) == 1


BAD_PARAMETERS = {
    "page_size": ["0", "-1", "201", "1.5", "abc", "", "1e2", "99999999999", "\u0663", "1\x00"],
    "cursor": ["", "1", "abc", "../..", "'; --", "\x00", "g" * 36, "é" * 32, "f" * 33],
    "status": ["", "done", "QUEUED", "queued,running", "queued\x00"],
    "type": ["", "Image", "text"],
    "model": ["fast\x00-draft", "\x00"],
    "created_after": [
        "",
        "yesterday",
        "2027-03-01",
        "2027-03-01T12:00:00",
        "2027-13-01T12:00:00Z",
        "1700000000",
    ],
    "created_before": ["NaN", "2027-02-30T12:00:00Z", "2027-03-01T12:00:00\x00Z"],
    "limit": ["10"],
    "user_id": ["1"],
    "order": ["id"],
    "page_size[]": ["1"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD_PARAMETERS.items() for value in values]
)
def test_a_bad_parameter_is_named(pro: Someone, name: str, value: str) -> None:
    response = pro.api.get("/v1/jobs", {name: value})
    assert response.status_code == 422, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert [error["field"] for error in response.json()["errors"]] == [name]


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31T23:59:59.999999Z"]
)
def test_the_ends_of_time_are_times(pro: Someone, time: str) -> None:
    submitted(pro)
    assert len(ids(pro, created_after=time)) == (0 if time.startswith("9") else 1)
    assert len(ids(pro, created_before=time)) == (1 if time.startswith("9") else 0)


def test_a_nul_in_the_query_is_never_a_server_error(pro: Someone) -> None:
    assert pro.api.get("/v1/jobs?%00=%00").status_code == 422
    assert pro.api.get("/v1/jobs?model=%ff%fe").json() == {"data": [], "next": None}

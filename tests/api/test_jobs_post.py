"""POST /v1/jobs: accepted with everything a client needs to go on, or answered from the cache at once."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from apps.caching.models import CachedResult
from apps.core import clock
from apps.jobs import schemas
from apps.jobs.models import Job
from apps.jobs.states import JobStatus
from apps.ledger.models import Entry, Hold
from tests import factories
from tests.api.shapes import conforms
from tests.factories import Someone, body

Work = Callable[[str], Job]


def test_a_job_is_accepted_with_its_model_estimate_and_addresses(pro: Someone) -> None:
    response = pro.api.post("/v1/jobs", body(metadata={"order": "7"}), format="json")
    assert response.status_code == 202
    assert response["Content-Type"] == "application/json"
    answer = response.json()
    assert conforms(schemas.Job, answer)
    address = f"/v1/jobs/{answer['id']}"
    assert response["Location"] == address
    assert "Idempotent-Replayed" not in response
    created_at = answer.pop("created_at")
    assert created_at.endswith("Z")
    assert abs(datetime.fromisoformat(created_at) - clock.now()) < timedelta(seconds=30)
    assert answer == {
        "id": str(uuid.UUID(answer["id"])),
        "status": "queued",
        "phase": "queued",
        "progress": 0.0,
        "type": "image",
        "model": "fast-draft",
        "cached": False,
        "cache": None,
        "estimated_cost_usd": "0.005",
        "estimated_time_s": {"p50": 3.0, "p95": 10.0, "basis": "catalog"},
        "cost_usd": "0",
        "saved_usd": "0",
        "outputs": [],
        "error": None,
        "batch_id": None,
        "custom_id": None,
        "metadata": {"order": "7"},
        "started_at": None,
        "finished_at": None,
        "cancel_requested_at": None,
        "urls": {"self": address, "cancel": f"{address}/cancel", "events": f"{address}/events"},
    }


def test_the_money_of_an_accepted_job_is_held(pro: Someone) -> None:
    job = pro.api.post("/v1/jobs", body(params={"n": 3}), format="json").json()
    hold = Hold.objects.get(reference=job["id"])
    assert (hold.state, hold.amount_usd) == (Hold.State.HELD, Decimal("0.015"))
    assert list(Entry.objects.values_list("kind", "amount_usd")) == [("hold", Decimal("0.015"))]


def test_the_row_is_due_at_once(pro: Someone) -> None:
    job = Job.objects.get(pk=pro.api.post("/v1/jobs", body(), format="json").json()["id"])
    assert job.due_at
    assert (job.status, job.due_at, job.lease) == (JobStatus.QUEUED, job.created_at, None)
    assert job.deadline_at > job.created_at


def test_without_a_model_the_cheapest_good_enough_is_chosen(pro: Someone) -> None:
    draft = {"type": "image", "prompt": "x"}
    models = [
        pro.api.post("/v1/jobs", {**draft, "requirements": requirements}, format="json").json()["model"]
        for requirements in ({}, {"quality": 9}, {"content_type": "draft"}, {"content_type": "print"})
    ]
    assert models == ["standard", "premium", "fast-draft", "premium"]


def test_the_hold_covers_the_dearest_model_that_may_be_fallen_back_to(pro: Someone) -> None:
    job = pro.api.post("/v1/jobs", body(fallback_models=["standard", "premium"]), format="json").json()
    assert job["estimated_cost_usd"] == "0.005"
    assert Hold.objects.get(reference=job["id"]).amount_usd == Decimal("0.08")


@pytest.mark.parametrize(
    ("asked", "estimate"),
    [
        ({"type": "video", "prompt": "waves", "params": {"duration_s": 2.5}}, "0.125"),
        ({"type": "video", "prompt": "waves", "params": {"resolution": "1080p", "aspect_ratio": "9:16"}}, "0.375"),
        ({"type": "audio", "prompt": "Hello there", "params": {"voice": "noor"}}, "0.00033"),
    ],
)  # fmt: skip
def test_video_and_audio_are_priced_by_what_is_asked(pro: Someone, asked: object, estimate: str) -> None:
    response = pro.api.post("/v1/jobs", asked, format="json")
    assert (response.status_code, response.json()["estimated_cost_usd"]) == (202, estimate)


# --- The cache --------------------------------------------------------------------------------


def test_the_same_request_again_is_answered_at_once_and_costs_nothing(pro: Someone, work: Work) -> None:
    first = work(pro.api.post("/v1/jobs", body(), format="json").json()["id"])
    response = pro.api.post("/v1/jobs", body(), format="json")
    assert response.status_code == 200
    answer = response.json()
    assert conforms(schemas.Job, answer)
    assert response["Location"] == f"/v1/jobs/{answer['id']}"
    assert answer["id"] != str(first.pk)
    assert (answer["status"], answer["phase"], answer["progress"]) == ("completed", "completed", 1.0)
    assert (answer["cached"], answer["cost_usd"], answer["saved_usd"]) == (True, "0", "0.005")
    assert answer["outputs"][0]["sha256"] == first.outputs[0]["sha256"]
    assert not Hold.objects.filter(reference=answer["id"]).exists()
    detail = pro.api.get(response["Location"]).json()
    assert (detail["status"], detail["cached"], detail["attempts"]) == ("completed", True, [])


def test_what_means_the_same_is_the_same_request(pro: Someone, work: Work) -> None:
    work(pro.api.post("/v1/jobs", body(prompt="A Lighthouse  at dusk"), format="json").json()["id"])
    same = body(prompt=" a lighthouse at\u00a0dusk ", params={"width": 1024, "n": 1}, metadata={"other": 1})
    assert pro.api.post("/v1/jobs", same, format="json").json()["cached"] is True


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a harbour"},
        {"params": {"seed": 1}},
        {"params": {"n": 2}},
        {"params": {"width": 512}},
        {"model": "standard"},
    ],
)
def test_another_request_is_not_answered_from_it(pro: Someone, work: Work, change: dict[str, object]) -> None:
    work(pro.api.post("/v1/jobs", body(), format="json").json()["id"])
    assert pro.api.post("/v1/jobs", body(**change), format="json").status_code == 202


def test_a_team_shares_its_results_and_no_other_team_sees_them(pro: Someone, work: Work) -> None:
    work(pro.api.post("/v1/jobs", body(), format="json").json()["id"])
    colleague, stranger = factories.someone(team=pro.user.team), factories.someone()
    assert stranger.api.post("/v1/jobs", body(), format="json").status_code == 202
    assert colleague.api.post("/v1/jobs", body(), format="json").json()["cached"] is True


def test_cache_off_neither_serves_nor_keeps(pro: Someone, work: Work) -> None:
    off = body(cache="off")
    first = work(pro.api.post("/v1/jobs", off, format="json").json()["id"])
    assert first.status == JobStatus.COMPLETED
    assert not CachedResult.objects.exists()
    work(pro.api.post("/v1/jobs", body(), format="json").json()["id"])
    again = pro.api.post("/v1/jobs", off, format="json")
    assert (again.status_code, again.json()["cached"]) == (202, False)


def test_cache_off_draws_another_seed_each_time(pro: Someone) -> None:
    jobs = [pro.api.post("/v1/jobs", body(cache="off"), format="json").json()["id"] for _ in range(3)]
    assert len(set(Job.objects.filter(pk__in=jobs).values_list("params__seed", flat=True))) == 3


def test_an_expired_result_is_not_served(pro: Someone, work: Work) -> None:
    work(pro.api.post("/v1/jobs", body(), format="json").json()["id"])
    expires_at = CachedResult.objects.get().expires_at
    with clock.frozen(expires_at - timedelta(seconds=1)):
        assert pro.api.post("/v1/jobs", body(), format="json").status_code == 200
    with clock.frozen(expires_at):
        assert pro.api.post("/v1/jobs", body(), format="json").status_code == 202


def test_a_cached_answer_is_given_to_a_user_without_budget(pro: Someone, work: Work) -> None:
    work(pro.api.post("/v1/jobs", body(), format="json").json()["id"])
    broke = factories.someone(team=pro.user.team, tier=factories.tier(monthly_budget_usd=Decimal(0)))
    assert broke.api.post("/v1/jobs", body(), format="json").json()["cost_usd"] == "0"


# --- The budget -------------------------------------------------------------------------------


def test_a_request_beyond_the_budget_is_402_with_the_figures_and_leaves_nothing(
    stored: Callable[[], tuple[int, int, int]],
) -> None:
    poor = factories.someone(
        tier=factories.tier(monthly_budget_usd=Decimal("0.012")), timezone="Europe/Berlin"
    )
    with clock.frozen(datetime(2027, 3, 10, tzinfo=UTC)):
        assert poor.api.post("/v1/jobs", body(), format="json").status_code == 202
        before = stored()
        response = poor.api.post("/v1/jobs", body(params={"n": 2}), format="json")
        assert response.status_code == 402
        assert response["Content-Type"] == "application/problem+json"
        problem = response.json()
        assert problem["code"] == "budget_exceeded"
        assert (problem["current"], problem["limit"], problem["requested"]) == ("0.005", "0.012", "0.01")
        # The first of April in Berlin, by then in summer time.
        assert datetime.fromisoformat(problem["reset_date"]) == datetime(2027, 3, 31, 22, tzinfo=UTC)
        assert stored() == before
        assert poor.api.post("/v1/jobs", body(), format="json").status_code == 202


def test_a_new_month_is_a_new_budget() -> None:
    poor = factories.someone(tier=factories.tier(monthly_budget_usd=Decimal("0.005")))
    with clock.frozen(datetime(2027, 3, 31, 23, 59, tzinfo=UTC)):
        assert poor.api.post("/v1/jobs", body(), format="json").status_code == 202
        assert poor.api.post("/v1/jobs", body(), format="json").status_code == 402
    with clock.frozen(datetime(2027, 4, 1, tzinfo=UTC)):
        assert poor.api.post("/v1/jobs", body(), format="json").status_code == 202

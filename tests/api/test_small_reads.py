"""GET /v1/models, /v1/budget, /v1/webhooks/secret and POST /v1/estimates."""

import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from standardwebhooks import Webhook

from apps.accounts.models import ApiKey, Team
from apps.catalog import snapshot
from apps.catalog.models import GenerationModel
from apps.core import clock
from apps.jobs import run, schemas
from apps.jobs.models import Job
from apps.ledger import schemas as money_schemas
from apps.ledger.models import Budget, Hold
from apps.webhooks import schemas as webhook_schemas
from apps.webhooks import signing
from tests import factories
from tests.api.shapes import conforms
from tests.factories import Someone, body

Work = Callable[[str], Job]

# --- Models -----------------------------------------------------------------------------------


def test_every_model_says_what_it_takes_and_costs(pro: Someone) -> None:
    answer = pro.api.get("/v1/models").json()
    assert conforms(schemas.Models, answer)
    models = {model["id"]: model for model in answer["data"]}
    assert set(models) == {"fast-draft", "standard", "premium", "clip", "speech"}
    assert models["fast-draft"]["prices"] == [{"unit": "image", "unit_price_usd": "0.005", "multipliers": {}}]
    assert models["clip"]["prices"][0]["multipliers"] == {"resolution": {"1080p": "1.5"}}
    assert models["fast-draft"]["limits"]["max_width"] == 1536
    assert models["clip"]["defaults"]["duration_s"] == 5
    assert models["clip"]["estimated_time_s"] == {"p50": 45, "p95": 120, "basis": "catalog"}


def test_the_tier_says_which_are_allowed() -> None:
    free = factories.someone(tier=factories.tier(max_quality=7))
    allowed = {model["id"]: model["allowed"] for model in free.api.get("/v1/models").json()["data"]}
    assert allowed == {"fast-draft": True, "standard": True, "clip": True, "speech": True, "premium": False}


def test_a_retired_model_is_not_offered(pro: Someone) -> None:
    GenerationModel.objects.filter(slug="standard").update(retired_at=clock.now())
    snapshot.forget()
    assert "standard" not in {model["id"] for model in pro.api.get("/v1/models").json()["data"]}


def test_every_model_can_be_asked_for_with_every_choice_it_lists(pro: Someone) -> None:
    for model in pro.api.get("/v1/models").json()["data"]:
        choices = {"resolutions": "resolution", "aspect_ratios": "aspect_ratio", "voices": "voice"}
        for limit, name in choices.items():
            for value in model["limits"].get(limit, [None]):
                asked = body(type=model["type"], model=model["id"], params={name: value} if value else {})
                response = pro.api.post("/v1/estimates", _estimate(asked), format="json")
                assert response.status_code == 200, response.content


# --- Estimates --------------------------------------------------------------------------------


def _estimate(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if name not in ("metadata", "cache", "callback_url")}


@pytest.mark.parametrize(
    "asked",
    [
        body(),
        body(params={"n": 4, "width": 1536}),
        body(model="standard", fallback_models=["premium"]),
        {"type": "image", "prompt": "x", "requirements": {"content_type": "client"}},
        {"type": "video", "prompt": "waves", "params": {"duration_s": 3.3, "resolution": "1080p"}},
        {"type": "audio", "prompt": "Hello there, and welcome."},
    ],
)
def test_the_estimate_is_what_the_job_then_says_and_holds(pro: Someone, asked: dict[str, Any]) -> None:
    estimate = pro.api.post("/v1/estimates", asked, format="json").json()
    assert conforms(schemas.Estimate, estimate)
    assert not Job.objects.exists()
    assert not Hold.objects.exists()
    job = pro.api.post("/v1/jobs", asked, format="json").json()
    assert job["estimated_cost_usd"] == estimate["estimated_cost_usd"]
    assert (job["model"], job["estimated_time_s"]) == (estimate["model"], estimate["estimated_time_s"])
    assert Hold.objects.get(reference=job["id"]).amount_usd == Decimal(estimate["upper_bound_usd"])
    detail = pro.api.get(f"/v1/jobs/{job['id']}").json()
    assert (detail["params"], detail["selection"]) == (estimate["params"], estimate["selection"])


def test_the_breakdown_multiplies_to_the_estimate(pro: Someone) -> None:
    asked = {"type": "video", "prompt": "waves", "params": {"duration_s": 4, "resolution": "1080p"}}
    estimate = pro.api.post("/v1/estimates", asked, format="json").json()
    parts = estimate["breakdown"]
    product = Decimal(parts["unit_price_usd"]) * Decimal(parts["quantity"]) * Decimal(parts["multiplier"])
    assert product == Decimal(estimate["estimated_cost_usd"]) == Decimal("0.3")
    assert (parts["multipliers"], parts["count"], parts["discount"]) == ({"resolution": "1.5"}, 1, "0")


def test_an_estimate_needs_no_budget() -> None:
    broke = factories.someone(tier=factories.tier(monthly_budget_usd=Decimal(0)))
    assert broke.api.post("/v1/estimates", body(), format="json").status_code == 200


# --- Budget -----------------------------------------------------------------------------------


def figures(someone: Someone) -> tuple[str, str, str, str]:
    found = someone.budget
    return found["limit_usd"], found["spent_usd"], found["held_usd"], found["remaining_usd"]


def test_the_budget_follows_a_job_through_its_life(pro: Someone, work: Work) -> None:
    assert conforms(money_schemas.Budget, pro.budget)
    assert figures(pro) == ("100", "0", "0", "100")
    job_id = pro.api.post("/v1/jobs", body(fallback_models=["standard"]), format="json").json()["id"]
    assert figures(pro) == ("100", "0", "0.025", "99.975")
    work(job_id)
    assert figures(pro) == ("100", "0.005", "0", "99.995")
    pro.api.post("/v1/jobs", body(fallback_models=["standard"]), format="json")  # from the cache
    assert figures(pro) == ("100", "0.005", "0", "99.995")


def test_a_canceled_job_gives_its_money_back(pro: Someone) -> None:
    job_id = pro.api.post("/v1/jobs", body(), format="json").json()["id"]
    pro.api.post(f"/v1/jobs/{job_id}/cancel")
    assert figures(pro)[2] == "0.005"
    run.run(uuid.UUID(job_id))
    assert figures(pro) == ("100", "0", "0", "100")


def test_a_users_own_limit_comes_before_the_tiers(pro: Someone) -> None:
    Budget.objects.create(user=pro.user, limit_usd=Decimal("7.5"))
    assert figures(pro) == ("7.5", "0", "0", "7.5")


def test_nothing_remains_when_the_limit_was_lowered_below_what_is_held(pro: Someone) -> None:
    pro.api.post("/v1/jobs", body(), format="json")
    Budget.objects.create(user=pro.user, limit_usd=Decimal("0.001"))
    assert figures(pro) == ("0.001", "0", "0.005", "0")


# --- The webhook secret -----------------------------------------------------------------------


def test_the_secret_is_the_teams_and_signs_its_webhooks(pro: Someone) -> None:
    answer = pro.api.get("/v1/webhooks/secret").json()
    assert conforms(webhook_schemas.WebhookSecret, answer)
    colleague, stranger = factories.someone(team=pro.user.team), factories.someone()
    assert colleague.api.get("/v1/webhooks/secret").json() == answer
    assert stranger.api.get("/v1/webhooks/secret").json() != answer
    assert answer["key"].startswith("whsec_")
    assert pro.user.team
    assert answer["key"] == signing.secret_for(pro.user.team.pk, 1)
    signed = Webhook(answer["key"]).sign("msg_1", clock.now(), "{}")
    assert Webhook(signing.secret_for(pro.user.team.pk, 1)).sign("msg_1", clock.now(), "{}") == signed


def test_a_rotated_secret_is_another(pro: Someone) -> None:
    before = pro.api.get("/v1/webhooks/secret").json()["key"]
    Team.objects.filter(users=pro.user).update(webhook_secret_version=2)
    assert pro.api.get("/v1/webhooks/secret").json()["key"] != before


def test_who_may_only_read_does_not_see_the_secret() -> None:
    reader = factories.someone(scopes=[ApiKey.Scope.JOBS_READ])
    assert reader.api.get("/v1/webhooks/secret").status_code == 403

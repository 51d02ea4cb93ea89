"""POST /v1/estimates gives a quote; POST /v1/jobs with it keeps to what was said, for ten minutes."""

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from apps.accounts import caller
from apps.accounts.models import Tier
from apps.catalog import quotes, snapshot
from apps.catalog.models import GenerationModel, Price, Quote, Route, RouteStats
from apps.core import clock
from apps.jobs import schemas
from apps.jobs.models import Job
from apps.ledger.models import Hold
from tests import factories
from tests.api.shapes import conforms
from tests.factories import Someone, body

Work = Callable[[str], Job]


@pytest.fixture(autouse=True)
def now() -> Iterator[datetime]:
    at = clock.now()
    with clock.frozen(at):
        yield at


def estimate(someone: Someone, **asked: Any) -> dict[str, Any]:
    response = someone.api.post("/v1/estimates", body(**asked), format="json")
    assert response.status_code == 200, response.content
    answer: dict[str, Any] = response.json()
    assert conforms(schemas.Estimate, answer)
    return answer


def submit(someone: Someone, quote: dict[str, Any], **asked: Any) -> Any:
    return someone.api.post("/v1/jobs", body(quote_id=quote["quote_id"], **asked), format="json")


def route(slug: str = "fast-draft") -> Route:
    return Route.objects.get(model=slug, provider="wavespeed")


def reprice(usd: str, slug: str = "fast-draft") -> Price:
    price = Price.objects.create(route=route(slug), version=2, unit="image", unit_price_usd=Decimal(usd))
    snapshot.forget()
    return price


def refused(response: Any, code: str, status: int = 422) -> bool:
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert not Hold.objects.exists()
    return True


def test_a_quote_holds_at_its_price_though_the_price_has_risen(pro: Someone) -> None:
    quote = estimate(pro)
    reprice("0.009")
    assert estimate(pro)["estimated_cost_usd"] == "0.009"
    answer = submit(pro, quote).json()
    assert answer["estimated_cost_usd"] == "0.005"
    held = Hold.objects.get(reference=answer["id"])
    assert (held.amount_usd, Price.objects.get(pk=held.price_id).version) == (Decimal("0.005"), 1)
    kept = Job.objects.get(pk=answer["id"]).quote
    assert (kept["quote_id"], kept["routes"][0]["price_version"]) == (quote["quote_id"], 1)


def test_the_job_costs_what_was_quoted(pro: Someone, work: Work) -> None:
    quote = estimate(pro)
    reprice("0.009")
    assert work(submit(pro, quote).json()["id"]).cost_usd == Decimal("0.005")


def test_a_quote_lasts_ten_minutes(pro: Someone, now: datetime) -> None:
    quote = estimate(pro)
    assert datetime.fromisoformat(quote["expires_at"]) == now + timedelta(minutes=10)
    with clock.frozen(now + timedelta(minutes=10)):
        assert refused(submit(pro, quote), "quote_expired")
    with clock.frozen(now + timedelta(minutes=9, seconds=59)):
        assert submit(pro, quote).status_code == 202


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "another"},
        {"params": {"width": 512}},
        {"params": {"n": 4}},
        {"model": "standard"},
        {"fallback_models": ["premium"]},
        {"requirements": {"max_cost_usd": "1"}},
        {"cache": "off"},
        {"priority": "batch"},
        {"type": "video", "model": "clip"},
    ],
    ids=str,
)
def test_a_quote_is_for_no_other_request(pro: Someone, change: dict[str, Any]) -> None:
    assert refused(submit(pro, estimate(pro), **change), "quote_mismatch")


def test_what_changes_neither_output_nor_price_may_differ(pro: Someone) -> None:
    quote = estimate(pro)
    asked = {"metadata": {"order": 1}, "callback_url": "https://example.com/"}
    assert submit(pro, quote, **asked).status_code == 202


def test_a_quote_is_its_users_alone(pro: Someone) -> None:
    quote = estimate(pro)
    colleague = factories.someone(team=pro.user.team)
    assert refused(submit(colleague, quote), "quote_expired")


def test_a_quote_that_never_was_is_refused_and_names_the_field(pro: Someone) -> None:
    response = submit(pro, {"quote_id": str(uuid.uuid4())})
    assert refused(response, "quote_expired")
    assert response.json()["errors"][0]["field"] == "quote_id"
    assert refused(submit(pro, {"quote_id": "7"}), "invalid_request")


def test_a_model_retired_meanwhile_is_not_sold_by_an_old_quote(pro: Someone) -> None:
    quote = estimate(pro)
    GenerationModel.objects.filter(slug="fast-draft").update(retired_at=clock.now())
    snapshot.forget()
    assert refused(submit(pro, quote), "model_retired", 410)


def test_a_route_closed_meanwhile_is_not_used_by_an_old_quote(pro: Someone) -> None:
    first = str(route().pk)
    second = Route.objects.create(model_id="fast-draft", provider="wavespeed", provider_model="b", position=9)
    Price.objects.create(route=second, version=1, unit="image", unit_price_usd=Decimal("0.004"))
    snapshot.forget()
    quote = estimate(pro)
    Route.objects.filter(pk=second.pk).update(active=False)
    snapshot.forget()
    job = Job.objects.get(pk=submit(pro, quote).json()["id"])
    assert [kept["route_id"] for kept in job.quote["routes"]] == [first]


def test_a_quote_all_of_whose_routes_are_replaced_is_over(pro: Someone) -> None:
    quote = estimate(pro)
    Route.objects.filter(model="fast-draft").update(active=False)
    second = Route.objects.create(model_id="fast-draft", provider="wavespeed", provider_model="b")
    Price.objects.create(route=second, version=1, unit="image", unit_price_usd=Decimal("0.004"))
    snapshot.forget()
    assert refused(submit(pro, quote), "quote_expired")


def test_a_tier_that_no_longer_allows_the_model_is_not_bound_by_the_quote(pro: Someone) -> None:
    quote = estimate(pro)
    Tier.objects.filter(users=pro.user).update(allowed_models=["standard"])
    caller.forget()
    assert refused(submit(pro, quote), "model_not_allowed", 403)


def test_the_answer_of_an_accepted_job_is_repeated_after_its_quote_is_over(
    pro: Someone, now: datetime
) -> None:
    asked = body(quote_id=estimate(pro)["quote_id"])
    first = pro.api.post("/v1/jobs", asked, format="json", HTTP_IDEMPOTENCY_KEY="k")
    with clock.frozen(now + timedelta(hours=1)):
        again = pro.api.post("/v1/jobs", asked, format="json", HTTP_IDEMPOTENCY_KEY="k")
    assert (again.status_code, again.content) == (202, first.content)


def test_a_quoted_request_is_the_same_picture_as_one_without_a_quote(pro: Someone) -> None:
    quoted = submit(pro, estimate(pro)).json()["id"]
    plain = pro.api.post("/v1/jobs", body(), format="json").json()["id"]
    one, other = Job.objects.get(pk=quoted), Job.objects.get(pk=plain)
    assert (one.params, bytes(one.fingerprint)) == (other.params, bytes(other.fingerprint))


def test_without_a_cache_each_job_of_a_quote_draws_its_own_seed(pro: Someone) -> None:
    quote = estimate(pro, cache="off")
    assert "seed" not in quote["params"]
    assert estimate(pro, cache="off", params={"seed": 7})["params"]["seed"] == 7
    ids = [submit(pro, quote, cache="off").json()["id"] for _ in range(2)]
    assert len({Job.objects.get(pk=job_id).params["seed"] for job_id in ids}) == 2


def test_no_prompt_is_kept_with_a_quote(pro: Someone) -> None:
    estimate(pro, prompt="a canary sings")
    kept = Quote.objects.get()
    assert "canary" not in str([getattr(kept, field.attname) for field in Quote._meta.concrete_fields])


def test_quotes_are_forgotten_when_they_are_over(pro: Someone, now: datetime) -> None:
    estimate(pro)
    with clock.frozen(now + timedelta(minutes=5)):
        young = estimate(pro)
    with clock.frozen(now + timedelta(minutes=12)):
        assert quotes.expire() == 1
    assert str(Quote.objects.get().pk) == young["quote_id"]


# --- What an estimate says --------------------------------------------------------------------


def test_the_cache_outlook_is_what_then_happens(pro: Someone, work: Work) -> None:
    quote = estimate(pro)
    assert quote["cache"] == {"outlook": "miss", "tier": None, "saves_usd": "0"}
    work(submit(pro, quote).json()["id"])
    quote = estimate(pro)
    assert quote["cache"] == {"outlook": "hit", "tier": "exact", "saves_usd": "0.005"}
    answer = submit(pro, quote)
    assert (answer.status_code, answer.json()["cached"]) == (200, True)
    stranger = factories.someone()
    assert estimate(stranger)["cache"]["outlook"] == "miss"
    assert estimate(pro, cache="off")["cache"] == {"outlook": "off", "tier": None, "saves_usd": "0"}


def test_the_time_is_of_recent_attempts_once_there_are_enough(pro: Someone) -> None:
    assert estimate(pro)["estimated_time_s"] == {"p50": 3, "p95": 10, "basis": "catalog"}
    stats = RouteStats.objects.create(
        route=route(), samples=20, success_rate=1, p50_s=1.5, p95_s=2.5, measured_at=clock.now()
    )
    snapshot.forget()
    recent = {"p50": 1.5, "p95": 2.5, "basis": "recent"}
    quote = estimate(pro)
    assert quote["estimated_time_s"] == recent
    assert submit(pro, quote).json()["estimated_time_s"] == recent
    models = {model["id"]: model for model in pro.api.get("/v1/models").json()["data"]}
    assert models["fast-draft"]["estimated_time_s"] == recent
    RouteStats.objects.filter(pk=stats.pk).update(samples=19)
    snapshot.forget()
    assert estimate(pro)["estimated_time_s"]["basis"] == "catalog"


def test_the_alternatives_are_named_with_their_cost_for_this_request(pro: Someone) -> None:
    asked = {"type": "image", "prompt": "x", "requirements": {"quality": 5}, "params": {"n": 2}}
    answer = pro.api.post("/v1/estimates", asked, format="json").json()
    assert answer["selection"] == {
        "model": "standard",
        "reason": "cheapest of quality 5 or better",
        "alternatives": [{"model": "premium", "quality": 9, "estimated_cost_usd": "0.16"}],
    }


def test_a_batch_is_promised_its_discount(pro: Someone) -> None:
    Price.objects.create(
        route=route(), version=2, unit="image", unit_price_usd=Decimal("0.005"), batch_discount=Decimal("0.5")
    )
    snapshot.forget()
    answer = estimate(pro, priority="batch")
    assert (answer["breakdown"]["discount"], answer["estimated_cost_usd"]) == ("0.5", "0.0025")


# --- What a job may cost ----------------------------------------------------------------------


def spare(slug: str, usd: str, quality: int = 7) -> None:
    """Another model like `standard`."""
    model = GenerationModel.objects.get(slug="standard")
    model.slug, model.quality = slug, quality
    model.save(force_insert=True)
    made = Route.objects.create(model=model, provider="wavespeed", provider_model=slug)
    Price.objects.create(route=made, version=1, unit="image", unit_price_usd=Decimal(usd))
    snapshot.forget()


def routes(someone: Someone, **asked: Any) -> tuple[list[str], str]:
    """The models whose routes a job may use, and its hold."""
    request = {"type": "image", "prompt": "x", **asked}
    job_id = someone.api.post("/v1/jobs", request, format="json").json()["id"]
    models = [kept["model"] for kept in Job.objects.get(pk=job_id).quote["routes"]]
    return models, str(Hold.objects.get(reference=job_id).amount_usd.normalize())


def test_a_model_that_was_not_named_may_be_replaced_by_one_up_to_twice_as_dear(pro: Someone) -> None:
    spare("near", "0.05")
    spare("far", "0.0501")
    spare("worse", "0.02", quality=4)
    assert routes(pro) == (["standard", "near"], "0.05")


def test_a_named_model_is_replaced_by_named_ones_only(pro: Someone) -> None:
    spare("near", "0.03")
    assert routes(pro, model="standard") == (["standard"], "0.025")
    assert routes(pro, model="standard", fallback_models=["premium"]) == (["standard", "premium"], "0.08")


def test_a_maximum_cost_bounds_every_route_and_the_hold(pro: Someone) -> None:
    spare("near", "0.03")
    assert routes(pro, requirements={"max_cost_usd": "0.08"}) == (["standard", "near", "premium"], "0.08")
    assert routes(pro, requirements={"max_cost_usd": "0.025"}) == (["standard"], "0.025")
    capped = {"requirements": {"max_cost_usd": "0.04"}, "fallback_models": ["premium"]}
    assert routes(pro, model="standard", **capped) == (["standard"], "0.025")


def test_a_maximum_that_nothing_keeps_is_refused_with_alternatives(pro: Someone) -> None:
    asked = {"type": "image", "prompt": "x", "requirements": {"max_cost_usd": "0.001"}}
    response = pro.api.post("/v1/jobs", asked, format="json")
    assert refused(response, "requirements_not_met")
    assert response.json()["alternatives"] == ["standard", "premium"]


@pytest.mark.parametrize("wrong", [0.05, "5e-2", "-1", "", "0.12345678901", "free", "１"])
def test_a_maximum_cost_is_decimal_text(pro: Someone, wrong: Any) -> None:
    asked = body(requirements={"max_cost_usd": wrong})
    assert refused(pro.api.post("/v1/jobs", asked, format="json"), "invalid_request")


@pytest.mark.parametrize("wrong", [0, -1, "10", True, 86_401])
def test_a_maximum_time_is_a_positive_number_of_seconds(pro: Someone, wrong: Any) -> None:
    asked = body(requirements={"max_latency_s": wrong})
    assert refused(pro.api.post("/v1/jobs", asked, format="json"), "invalid_request")


def test_a_tier_sees_which_models_it_may_have(pro: Someone) -> None:
    Tier.objects.filter(users=pro.user).update(allowed_models=["clip", "standard"])
    caller.forget()
    models = pro.api.get("/v1/models").json()["data"]
    assert {model["id"] for model in models if model["allowed"]} == {"clip", "standard"}

import dataclasses
from decimal import Decimal
from typing import Any

import pytest

from apps.accounts.caller import Limits
from apps.catalog import selection, snapshot
from apps.catalog.errors import (
    ModelNotAllowed,
    ModelNotFound,
    ModelRefused,
    ModelRetired,
    RequirementsNotMet,
)
from apps.catalog.models import GenerationModel, Price, Route, RouteStats
from apps.catalog.selection import Requirements, Selection, Wanted
from apps.core import clock
from apps.core.errors import InvalidRequest

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("catalog")]


REQUIREMENTS = {field.name for field in dataclasses.fields(Requirements)}
TIER = {"max_quality", "prefers_cheapest", "allowed_models"}


def limits(**changes: Any) -> Limits:
    usual: dict[str, Any] = {field.name: None for field in dataclasses.fields(Limits)}
    usual |= {"max_quality": 10, "prefers_cheapest": False, "allowed_models": frozenset()}
    return Limits(**{**usual, **changes})


def choose(
    *, kind: str = "image", prompt: str = "a fox", model: str | None = None, **asked: Any
) -> Selection:
    """`asked`: requirements, what the tier allows, and parameters."""
    needs = {name: asked.pop(name) for name in REQUIREMENTS & set(asked)}
    tier = {name: asked.pop(name) for name in TIER & set(asked)}
    wanted = Wanted(kind, prompt, asked)
    return selection.choose(wanted, tier=limits(**tier), model=model, requirements=Requirements(**needs))


def alternatives(choice: Selection) -> list[str]:
    return [offer.model.slug for offer in choice.alternatives]


def refused(error: type[ModelRefused], **asked: Any) -> dict[str, Any]:
    with pytest.raises(error) as refusal:
        choose(**asked)
    return refusal.value.extra


def test_a_named_model_is_taken() -> None:
    choice = choose(model="premium")
    assert choice.model.slug == "premium"
    assert alternatives(choice) == ["fast-draft", "standard"]


@pytest.mark.parametrize(
    ("asked", "slug"),
    [
        ({}, "standard"),
        ({"quality": 1}, "fast-draft"),
        ({"quality": 4}, "standard"),
        ({"quality": 8}, "premium"),
        ({"content_type": "social"}, "standard"),
        ({"content_type": "client"}, "premium"),
        ({"content_type": "print"}, "premium"),
        ({"content_type": "draft"}, "fast-draft"),
        ({"content_type": "something else"}, "standard"),
        ({"content_type": "social", "quality": 9}, "premium"),
        ({"content_type": "print", "quality": 3}, "fast-draft"),
        ({"content_type": "print", "max_quality": 7}, "standard"),
        ({"max_quality": 3}, "fast-draft"),
        ({"prefers_cheapest": True}, "fast-draft"),
        ({"prefers_cheapest": True, "content_type": "print"}, "fast-draft"),
        ({"prefers_cheapest": True, "quality": 7}, "standard"),
        ({"kind": "video"}, "clip"),
        ({"kind": "audio"}, "speech"),
    ],
)
def test_the_cheapest_that_is_good_enough_is_chosen(asked: dict[str, Any], slug: str) -> None:
    assert choose(**asked).model.slug == slug


def test_the_reason_and_the_alternatives_are_said() -> None:
    choice = choose(content_type="social")
    assert choice.reason == "cheapest good enough for social (quality 5 or better)"
    assert alternatives(choice) == ["premium"]


def test_an_unknown_model_is_refused_with_alternatives_and_the_field() -> None:
    extra = refused(ModelNotFound, model="dall-e")
    assert extra["alternatives"] == ["fast-draft", "standard", "premium"]
    assert extra["errors"][0]["field"] == "model"


def test_a_model_of_another_kind_is_not_found() -> None:
    assert refused(ModelNotFound, model="clip")["alternatives"] == ["fast-draft", "standard", "premium"]


def test_an_inactive_model_is_not_found() -> None:
    GenerationModel.objects.filter(slug="premium").update(active=False)
    snapshot.forget()
    refused(ModelNotFound, model="premium")


def test_a_model_without_a_working_route_is_not_found() -> None:
    Route.objects.filter(model="premium").update(active=False)
    snapshot.forget()
    refused(ModelNotFound, model="premium")


def test_a_retired_model_names_its_successor_first() -> None:
    GenerationModel.objects.filter(slug="fast-draft").update(retired_at=clock.now(), successor="premium")
    snapshot.forget()
    assert refused(ModelRetired, model="fast-draft")["alternatives"] == ["premium", "standard"]


def test_a_model_above_the_tier_is_not_allowed() -> None:
    assert refused(ModelNotAllowed, model="premium", max_quality=7)["alternatives"] == [
        "fast-draft",
        "standard",
    ]


def test_a_quality_above_the_tier_is_not_allowed() -> None:
    extra = refused(ModelNotAllowed, quality=9, max_quality=7)
    assert extra["alternatives"] == ["fast-draft", "standard"]
    assert extra["errors"][0]["field"] == "requirements.quality"


def test_a_quality_that_nobody_makes_is_not_found() -> None:
    refused(ModelNotFound, quality=10)


def test_a_tier_below_every_model_is_told_so() -> None:
    assert refused(ModelNotAllowed, max_quality=2)["alternatives"] == []


def test_a_kind_that_nobody_makes_is_not_found() -> None:
    GenerationModel.objects.filter(kind="video").update(active=False)
    snapshot.forget()
    refused(ModelNotFound, kind="video")


# --- What the tier allows ---------------------------------------------------------------------


def test_a_tier_with_a_list_gets_only_what_is_on_it() -> None:
    only = frozenset({"fast-draft", "premium"})
    assert choose(allowed_models=only).model.slug == "premium"
    assert choose(allowed_models=only, quality=1).model.slug == "fast-draft"
    extra = refused(ModelNotAllowed, model="standard", allowed_models=only)
    assert extra["alternatives"] == ["fast-draft", "premium"]


def test_a_list_does_not_lift_the_cap_on_quality() -> None:
    both = frozenset({"fast-draft", "premium"})
    refused(ModelNotAllowed, model="premium", allowed_models=both, max_quality=7)


def test_a_quality_that_the_list_lacks_is_not_allowed() -> None:
    extra = refused(ModelNotAllowed, quality=8, allowed_models=frozenset({"standard"}))
    assert extra["alternatives"] == ["standard"]


# --- What the request can take ----------------------------------------------------------------


def test_a_model_that_does_not_take_the_parameters_is_passed_over() -> None:
    assert choose(quality=1, width=2048).model.slug == "standard"
    assert choose(quality=1, width=4096).model.slug == "premium"
    assert alternatives(choose(model="premium", width=2048)) == ["standard"]


def test_parameters_that_none_takes_are_named() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        choose(quality=1, width=9000)
    assert refusal.value.extra["errors"][0]["field"] == "params.width"


def test_parameters_that_the_named_model_does_not_take_are_named() -> None:
    with pytest.raises(InvalidRequest, match="1536"):
        choose(model="fast-draft", width=2048)


def test_the_price_is_of_the_request_and_not_of_a_usual_one() -> None:
    """Per megapixel it is the dearer one at the usual size, and the cheaper one for a small picture."""
    route = Route.objects.get(model="premium", provider="wavespeed")
    Price.objects.create(route=route, version=2, unit="megapixel", unit_price_usd=Decimal("0.04"))
    snapshot.forget()
    assert choose(quality=5).model.slug == "standard"
    assert choose(quality=5, width=512, height=512).model.slug == "premium"


# --- What the request requires ----------------------------------------------------------------


def test_a_maximum_cost_refuses_what_is_dearer_and_names_what_would_do() -> None:
    assert choose(quality=8, max_cost_usd=Decimal("0.08")).model.slug == "premium"
    extra = refused(RequirementsNotMet, quality=5, max_cost_usd=Decimal("0.02"))
    assert extra["alternatives"] == ["standard", "premium"]
    assert refused(RequirementsNotMet, model="premium", max_cost_usd=Decimal("0.03"))["alternatives"] == [
        "fast-draft",
        "standard",
    ]


def test_the_maximum_is_for_all_outputs_of_the_request() -> None:
    assert choose(quality=5, n=4, max_cost_usd=Decimal("0.1")).model.slug == "standard"
    refused(RequirementsNotMet, quality=5, n=4, max_cost_usd=Decimal("0.0999"))


def test_a_maximum_time_takes_a_dearer_model_that_is_fast_enough() -> None:
    measure("standard", p95_s=30)
    measure("premium", p95_s=9)
    choice = choose(quality=5, max_latency_s=10)
    assert choice.model.slug == "premium"
    assert choice.reason == "cheapest of quality 5 or better, within 10 s"


def test_the_time_is_the_catalogs_while_too_few_attempts_were_measured() -> None:
    measure("standard", samples=19, p95_s=1)
    assert choose(model="standard").offer.timing.basis == "catalog"
    refused(RequirementsNotMet, model="standard", max_latency_s=10)
    measure("standard", samples=20, p95_s=1)
    assert choose(model="standard", max_latency_s=10).offer.timing.basis == "recent"


def test_a_route_that_mostly_fails_costs_what_it_takes_to_get_a_result() -> None:
    """$0.025 at one success in five is dearer than $0.08 that always works."""
    measure("standard", success_rate=0.2)
    choice = choose(quality=5)
    assert (choice.model.slug, alternatives(choice)) == ("premium", ["standard"])
    assert choice.alternatives[0].quote.estimated_usd == Decimal("0.025")
    measure("standard", success_rate=0.5)
    assert choose(quality=5).model.slug == "standard"


def test_a_route_that_never_works_is_the_last_choice_and_still_one() -> None:
    measure("standard", success_rate=0.0, p50_s=None, p95_s=None)
    assert choose(quality=5).model.slug == "premium"
    assert choose(model="standard").model.slug == "standard"


def measure(slug: str, **found: Any) -> None:
    """What the route was measured to do."""
    usual = {"samples": 100, "success_rate": 1.0, "p50_s": 1.0, "p95_s": 2.0, "measured_at": clock.now()}
    RouteStats.objects.update_or_create(
        route=Route.objects.get(model=slug, provider="wavespeed"), defaults={**usual, **found}
    )
    snapshot.forget()


def test_a_second_choice_of_the_same_request_is_priced_once() -> None:
    """By the memory of one snapshot: the offers of the next are new ones."""
    first = choose(quality=5).offer
    assert choose(quality=5, prompt="another").offer is first
    assert choose(quality=5, n=2).offer is not first
    snapshot.forget()
    assert choose(quality=5).offer is not first


def test_what_is_priced_by_its_text_is_priced_for_each_text() -> None:
    costs = [choose(kind="audio", prompt="x" * length).offer.quote.estimated_usd for length in (1000, 2000)]
    assert costs == [Decimal("0.03"), Decimal("0.06")]

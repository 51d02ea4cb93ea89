from typing import Any

import pytest

from apps.catalog import selection, snapshot
from apps.catalog.errors import ModelNotAllowed, ModelNotFound, ModelRefused, ModelRetired
from apps.catalog.models import GenerationModel, Route
from apps.catalog.selection import Selection
from apps.core import clock

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("catalog")]


def choose(**asked: Any) -> Selection:
    usual = {"kind": "image", "model": None, "quality": None, "content_type": None, "max_quality": 10}
    return selection.choose(**{**usual, **asked})


def refused(error: type[ModelRefused], **asked: Any) -> dict[str, Any]:
    with pytest.raises(error) as refusal:
        choose(**asked)
    return refusal.value.extra


def test_a_named_model_is_taken() -> None:
    choice = choose(model="premium")
    assert choice.model.slug == "premium"
    assert choice.alternatives == ("fast-draft", "standard")


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
        ({"cheapest": True}, "fast-draft"),
        ({"cheapest": True, "content_type": "print"}, "fast-draft"),
        ({"cheapest": True, "quality": 7}, "standard"),
        ({"kind": "video"}, "clip"),
        ({"kind": "audio"}, "speech"),
    ],
)
def test_the_cheapest_that_is_good_enough_is_chosen(asked: dict[str, Any], slug: str) -> None:
    assert choose(**asked).model.slug == slug


def test_the_reason_and_the_alternatives_are_said() -> None:
    choice = choose(content_type="social")
    assert choice.reason == "cheapest good enough for social (quality 5 or better)"
    assert choice.alternatives == ("premium",)


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

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from apps.catalog import snapshot
from apps.catalog.models import GenerationModel, Price, Route, RouteStats
from apps.catalog.snapshot import Catalog
from apps.core import clock

pytestmark = pytest.mark.django_db


def reprice(slug: str, unit_price_usd: str, **values: Any) -> None:
    route = Route.objects.get(model=slug, provider="wavespeed")
    Price.objects.create(
        **{"route": route, "version": 2, "unit": "image", "unit_price_usd": Decimal(unit_price_usd), **values}
    )
    snapshot.forget()


def test_four_queries_and_then_none(catalog: Catalog, django_assert_num_queries: Any) -> None:
    snapshot.forget()
    with django_assert_num_queries(4):
        assert set(snapshot.current().models) == set(catalog.models)
    with django_assert_num_queries(0):
        snapshot.current()


def test_what_has_not_changed_is_not_read_again(catalog: Catalog, django_assert_num_queries: Any) -> None:
    known = snapshot.current()
    with clock.frozen(clock.now() + timedelta(seconds=2 * snapshot.REFRESH_S)):
        with django_assert_num_queries(1):
            assert snapshot.current() is known
        with django_assert_num_queries(0):
            snapshot.current()


@pytest.mark.parametrize(
    "change",
    [
        lambda route: GenerationModel.objects.filter(slug="premium").update(quality=1),
        lambda route: GenerationModel.objects.filter(slug="premium").update(active=False),
        lambda route: Route.objects.filter(pk=route.pk).update(weight=7),
        lambda route: Route.objects.filter(pk=route.pk).update(active=False),
        lambda route: Price.objects.create(route=route, version=9, unit="image", unit_price_usd=Decimal(9)),
        lambda route: RouteStats.objects.create(route=route, samples=0, measured_at=clock.now()),
    ],
    ids=["model", "model off", "route", "route off", "price", "stats"],
)
def test_a_change_is_seen_after_the_refresh_time_and_not_before(
    catalog: Catalog, change: Callable[[Route], object]
) -> None:
    snapshot.forget()
    read_at = clock.now()
    with clock.frozen(read_at):
        known = snapshot.current()
    # Prices have their time.
    with clock.frozen(read_at + timedelta(seconds=snapshot.REFRESH_S - 0.1)):
        change(Route.objects.get(model="premium", provider="wavespeed"))
        assert snapshot.current() is known
    with clock.frozen(read_at + timedelta(seconds=snapshot.REFRESH_S)):
        assert snapshot.current() is not known


def test_a_price_is_seen_when_it_comes_into_force(catalog: Catalog) -> None:
    at = clock.now() + timedelta(seconds=60)
    reprice("premium", "0.3", effective_at=at)
    assert snapshot.current().models["premium"].routes[0].price.version == 1
    with clock.frozen(at):
        assert snapshot.current().models["premium"].routes[0].price.version == 2


def test_nothing_in_it_can_be_changed(catalog: Catalog) -> None:
    clip = catalog.models["clip"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        clip.quality = 1  # type: ignore[misc]  # that is the point
    for mapping in (
        catalog.models,
        clip.limits,
        clip.defaults,
        clip.routes[0].price.multipliers["resolution"],
    ):
        with pytest.raises(TypeError):
            mapping["x"] = 1  # type: ignore[index]  # that is the point


def test_the_latest_price_in_force_counts(catalog: Catalog) -> None:
    reprice("premium", "0.1", effective_at=clock.now() + timedelta(days=1))
    assert snapshot.current().models["premium"].routes[0].price.version == 1
    reprice("premium", "0.2", version=3)
    assert snapshot.current().models["premium"].routes[0].price.unit_price_usd == Decimal("0.2")


def test_a_scheduled_price_takes_effect_though_a_later_version_came_before_it(catalog: Catalog) -> None:
    tomorrow = clock.now() + timedelta(days=1)
    reprice("premium", "0.1", version=2, effective_at=tomorrow)
    reprice("premium", "0.2", version=3)
    with clock.frozen(tomorrow):
        assert snapshot.current().models["premium"].routes[0].price.version == 2


def test_a_route_whose_price_is_zero_is_unknown_and_not_offered(catalog: Catalog) -> None:
    reprice("premium", "0")
    assert snapshot.current().models["premium"].routes == ()
    assert "premium" not in {model.slug for model in snapshot.current().offered("image")}


def test_a_route_priced_by_what_requests_do_not_say_is_not_offered(catalog: Catalog) -> None:
    reprice("premium", "1", unit="second")
    assert snapshot.current().models["premium"].routes == ()


def test_a_route_without_a_price_and_an_inactive_route_are_not_offered(catalog: Catalog) -> None:
    premium = GenerationModel.objects.get(slug="premium")
    Route.objects.create(model=premium, provider="wavespeed", provider_model="p", position=0)
    Route.objects.filter(model="standard").update(active=False)
    snapshot.forget()
    assert [route.provider_model for route in snapshot.current().models["premium"].routes] == [
        "wavespeed-ai/premium"
    ]
    assert snapshot.current().models["standard"].routes == ()


def test_routes_come_in_the_order_of_their_position(catalog: Catalog) -> None:
    premium = GenerationModel.objects.get(slug="premium")
    Route.objects.filter(model="premium").update(position=5)
    first = Route.objects.create(model=premium, provider="wavespeed", provider_model="p", position=1)
    Price.objects.create(route=first, version=1, unit="image", unit_price_usd=1)
    snapshot.forget()
    assert [route.provider_model for route in snapshot.current().models["premium"].routes] == [
        "p",
        "wavespeed-ai/premium",
    ]


def test_what_only_a_provider_without_a_key_makes_is_not_offered(catalog: Catalog, settings: Any) -> None:
    assert "gpt-image-high" not in {model.slug for model in catalog.offered()}
    assert {route.provider for route in catalog.models["standard"].routes} == {"wavespeed"}
    settings.PROVIDERS = {**settings.PROVIDERS, "openai": {"api_key": "k"}, "fal": {"api_key": "k"}}
    snapshot.forget()
    both = snapshot.current()
    assert "gpt-image-high" in {model.slug for model in both.offered()}
    assert [route.provider for route in both.models["standard"].routes] == ["wavespeed", "fal"]
    settings.PROVIDERS = {}
    snapshot.forget()
    assert snapshot.current().offered() == ()


def test_an_inactive_model_is_gone_and_a_retired_one_no_longer_offered(catalog: Catalog) -> None:
    GenerationModel.objects.filter(slug="premium").update(active=False)
    GenerationModel.objects.filter(slug="standard").update(retired_at=clock.now())
    snapshot.forget()
    assert "premium" not in snapshot.current().models
    assert [model.slug for model in snapshot.current().offered("image")] == ["fast-draft"]
    assert "standard" in snapshot.current().models

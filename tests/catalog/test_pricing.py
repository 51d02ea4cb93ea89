import dataclasses
import uuid
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.catalog import pricing
from apps.catalog.snapshot import ModelInfo, PriceInfo, RouteInfo, StatsInfo
from apps.core.errors import InvalidRequest


def priced(
    unit: str,
    *usd: str,
    multipliers: dict[str, dict[str, str]] | None = None,
    prompt_token_usd: str = "0",
    batch_discount: str = "0",
) -> ModelInfo:
    """A model with one route for each price."""
    routes = tuple(
        RouteInfo(
            id=uuid.uuid4(),
            provider=f"provider-{i}",
            provider_model=f"m{i}",
            price=PriceInfo(
                uuid.uuid4(),
                1,
                unit,
                Decimal(price),
                multipliers or {},
                Decimal(prompt_token_usd),
                Decimal(batch_discount),
            ),
        )
        for i, price in enumerate(usd)
    )
    limits = {
        "max_width": 2048,
        "max_height": 2048,
        "max_megapixels": 2,
        "max_n": 4,
        "max_duration_s": 10,
        "resolutions": ["720p", "1080p"],
    }
    return ModelInfo(
        slug="m",
        name="M",
        kind="image",
        quality=5,
        version="1",
        limits=limits,
        defaults={"width": 1024, "height": 1024, "resolution": "720p"},
        case_sensitive=False,
        expected_s_p50=1,
        expected_s_p95=2,
        licence="",
        commercial_use=True,
        retired_at=None,
        successor=None,
        cache_ttl_s=None,
        routes=routes,
    )


def cost(unit: str, usd: str, prompt: str = "", **params: Any) -> Decimal:
    return pricing.quote(priced(unit, usd), params=params, prompt=prompt).estimated_usd


def faults(model: ModelInfo, **params: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refusal:
        pricing.resolve(model, params)
    return {error["field"]: error["code"] for error in refusal.value.extra["errors"]}


def test_25000_characters_at_4_millicents_are_exactly_one_dollar() -> None:
    amount = cost("character", "0.00004", prompt="x" * 25_000, n=1)
    assert str(amount) == "1.0000000000"


@pytest.mark.parametrize(
    ("unit", "params", "prompt", "expected"),
    [
        ("image", {"n": 3}, "", "0.30"),
        ("request", {"n": 3}, "", "0.10"),
        ("megapixel", {"n": 2, "width": 1000, "height": 500}, "", "0.10"),
        ("second", {"n": 1, "duration_s": 5}, "", "0.50"),
        ("second", {"n": 1, "duration_s": 2.1}, "", "0.21"),
        ("character", {"n": 1}, "åé😀", "0.30"),
        ("1k_characters", {"n": 1}, "x" * 1500, "0.15"),
    ],
)
def test_each_unit_counts_what_it_says(unit: str, params: Any, prompt: str, expected: str) -> None:
    assert cost(unit, "0.10", prompt, **params) == Decimal(expected)


def test_a_multiplier_counts_for_its_value_only() -> None:
    model = priced("second", "0.05", multipliers={"resolution": {"1080p": "1.5"}})
    hd = pricing.quote(model, params={"duration_s": 4, "resolution": "1080p"}, prompt="")
    assert hd.estimated_usd == Decimal("0.30")
    assert hd.breakdown == {
        "unit": "second",
        "unit_price_usd": "0.05",
        "quantity": "4",
        "count": 1,
        "multipliers": {"resolution": "1.5"},
        "multiplier": "1.5",
        "prompt_usd": "0",
        "discount": "0",
    }
    base = pricing.quote(model, params={"duration_s": 4, "resolution": "720p"}, prompt="")
    assert base.estimated_usd == Decimal("0.20")


def test_an_image_by_the_token_costs_its_tokens_and_those_of_the_prompt_at_most() -> None:
    table = {"size": {"1024x1024": "1056", "else": "6240"}}
    model = priced("token", "0.000032", multipliers=table, prompt_token_usd="0.000005")
    quote = pricing.quote(model, params={"n": 2, "width": 1024, "height": 1024}, prompt="é" * 100)
    # 2 x 1056 tokens of the output; 200 bytes of the prompt, once.
    assert quote.estimated_usd == Decimal("0.067584") + Decimal("0.001")
    assert quote.breakdown["prompt_usd"] == "0.001"
    large = pricing.quote(model, params={"n": 1, "width": 1536, "height": 1024}, prompt="")
    assert large.estimated_usd == Decimal("0.19968")


def test_the_article_s_video_costs_half_as_much_again_in_1080p_and_by_its_length_above_five_seconds() -> None:
    rules = {"resolution": {"1080p": "1.5"}, "duration_s": {"above": "5", "per": "5"}}
    model = priced("request", "0.025", multipliers=rules)
    costs = {
        (resolution, duration_s): pricing.quote(
            model, params={"resolution": resolution, "duration_s": duration_s}, prompt=""
        ).estimated_usd
        for resolution in ("720p", "1080p")
        for duration_s in (4, 10)
    }
    assert costs == {
        ("720p", 4): Decimal("0.025"),
        ("1080p", 4): Decimal("0.0375"),
        ("720p", 10): Decimal("0.05"),
        ("1080p", 10): Decimal("0.075"),
    }


def test_a_batch_has_the_price_s_discount_and_nothing_else_has() -> None:
    model = priced("image", "0.02", batch_discount="0.5")
    assert pricing.quote(model, params={"n": 3}, prompt="").estimated_usd == Decimal("0.06")
    batch = pricing.quote(model, params={"n": 3}, prompt="", batch=True)
    assert (batch.estimated_usd, batch.breakdown["discount"]) == (Decimal("0.03"), "0.5")


@pytest.mark.parametrize(
    ("routing", "order"),
    [
        ("priority", ["m0", "m1", "m2"]),
        ("cheapest", ["m2", "m0", "m1"]),
        ("fastest", ["m1", "m0", "m2"]),
        ("weighted", ["m2", "m0", "m1"]),
    ],
)
def test_routes_are_quoted_in_the_order_of_the_models_routing(routing: str, order: list[str]) -> None:
    model = dataclasses.replace(priced("image", "0.02", "0.05", "0.01"), routing=routing)
    at = datetime(2026, 12, 1, tzinfo=UTC)
    quick = StatsInfo(samples=50, success_rate=1, p50_s=0.5, p95_s=1, measured_at=at)
    first, second, third = model.routes
    routes = (first, dataclasses.replace(second, stats=quick), dataclasses.replace(third, weight=5))
    quote = pricing.quote(dataclasses.replace(model, routes=routes), params={"n": 1}, prompt="")
    assert [route.provider_model for route in quote.routes] == order
    assert quote.estimated_usd == quote.routes[0].amount_usd
    assert quote.upper_bound_usd == Decimal("0.05")


def test_the_first_route_is_the_estimate_and_the_dearest_the_bound() -> None:
    model = priced("image", "0.02", "0.05", "0.01")
    quote = pricing.quote(model, params={"n": 2}, prompt="")
    assert (quote.estimated_usd, quote.upper_bound_usd) == (Decimal("0.04"), Decimal("0.10"))
    assert [route.amount_usd for route in quote.routes] == [Decimal("0.04"), Decimal("0.10"), Decimal("0.02")]
    assert [route.price_id for route in quote.routes] == [route.price.id for route in model.routes]


def test_a_product_of_many_digits_is_not_rounded_on_the_way() -> None:
    """Cut to 28 digits first, it would be a tie and be rounded down."""
    model = priced(
        "image", "1000000000", multipliers={"resolution": {"x": "1.000000000000000000050000000001"}}
    )
    quote = pricing.quote(model, params={"n": 1, "resolution": "x"}, prompt="")
    assert str(quote.estimated_usd) == "1000000000.0000000001"


@given(
    unit_price=st.decimals(min_value="0.00000000000001", max_value="9999999999", places=14),
    length=st.integers(min_value=0, max_value=100_000),
    factor=st.decimals(min_value="0.001", max_value="100", places=3),
)
def test_a_charge_is_the_exact_product_rounded_once_half_even(
    unit_price: Decimal, length: int, factor: Decimal
) -> None:
    model = priced("1k_characters", str(unit_price), multipliers={"resolution": {"x": str(factor)}})
    quote = pricing.quote(model, params={"n": 1, "resolution": "x"}, prompt="x" * length)
    exact = Fraction(unit_price) * Fraction(length, 1000) * Fraction(factor)
    assert Fraction(quote.estimated_usd) == Fraction(round(exact * 10**10), 10**10)
    assert quote.estimated_usd == quote.estimated_usd.quantize(Decimal("1E-10"), rounding=ROUND_HALF_EVEN)


@given(n=st.integers(min_value=1, max_value=4), unit_price=st.decimals(min_value=0, max_value=100, places=10))
def test_n_outputs_cost_n_times_one(n: int, unit_price: Decimal) -> None:
    assert cost("image", str(unit_price), n=n) == n * cost("image", str(unit_price), n=1)


def test_defaults_are_filled_in_and_null_counts_as_not_given() -> None:
    resolved = pricing.resolve(priced("image", "1"), {"width": 512, "height": None, "seed": 7})
    assert resolved == {"n": 1, "width": 512, "height": 1024, "resolution": "720p", "seed": 7}


def test_a_whole_number_of_seconds_has_one_form() -> None:
    for five in (5, 5.0, Decimal("5.0")):
        assert repr(pricing.resolve(priced("image", "1"), {"duration_s": five})["duration_s"]) == "5"
    assert pricing.resolve(priced("image", "1"), {"duration_s": Decimal("2.5")})["duration_s"] == 2.5


BAD_VALUES: dict[str, list[Any]] = {
    "width": [0, -1, 63, 2049, 10**9, 10**400, "512", True, 512.0, [512], {}],
    "n": [0, 5, 10**6, 1.5],
    "seed": [-1, 2**31, 2**63, 1.0, "1", False],
    "duration_s": [0, -5, 11, float("nan"), float("inf"), Decimal("NaN"), "5", True],
    "resolution": ["4k", "", 720, ["720p"]],
    "negative_prompt": [1, "x" * 2001, "a\0b", "\ud800"],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}={value!r:.20}")
        for name, values in BAD_VALUES.items()
        for value in values
    ],
)
def test_a_value_out_of_its_range_or_type_is_refused_by_name(name: str, value: Any) -> None:
    assert faults(priced("image", "1"), **{name: value}) == {f"params.{name}": "invalid"}


def test_every_bad_field_is_named() -> None:
    assert faults(priced("image", "1"), width=0, steps=50, n=99) == {
        "params.width": "invalid",
        "params.steps": "unknown",
        "params.n": "invalid",
    }


def test_a_parameter_the_model_has_no_limit_for_is_not_offered() -> None:
    assert faults(priced("image", "1"), voice="aria") == {"params.voice": "unknown"}
    speech = dataclasses.replace(priced("character", "1"), kind="audio", limits={}, defaults={})
    assert faults(speech, negative_prompt="no") == {"params.negative_prompt": "unknown"}
    assert pricing.resolve(speech, {"seed": 1}) == {"n": 1, "seed": 1}
    assert pricing.resolve(speech, {"n": 1}) == {"n": 1}
    assert faults(speech, n=2) == {"params.n": "invalid"}


def test_the_area_is_limited_too() -> None:
    assert set(faults(priced("image", "1"), width=2048, height=2048)) == {"params.width", "params.height"}


def test_where_only_some_sizes_are_offered_others_are_refused() -> None:
    model = priced("image", "1")
    square = dataclasses.replace(model, limits={**model.limits, "sizes": ["1024x1024"]})
    assert pricing.resolve(square, {})["width"] == 1024
    assert set(faults(square, width=512)) == {"params.width", "params.height"}


def test_the_largest_seed_passes() -> None:
    assert pricing.resolve(priced("image", "1"), {"seed": 2**31 - 1})["seed"] == 2**31 - 1


def test_a_price_of_an_unknown_unit_is_an_error_and_not_free() -> None:
    with pytest.raises(ValueError, match="fortnight"):
        cost("fortnight", "1")


def test_retirement_begins_at_its_moment() -> None:
    at = datetime(2026, 12, 1, tzinfo=UTC)
    model = dataclasses.replace(priced("image", "1"), retired_at=at)
    assert model.is_retired(at)
    assert model.is_offered(datetime(2026, 11, 30, 23, 59, tzinfo=UTC))

"""The rules of a price, as they are written in the catalog file."""

from decimal import Decimal
from typing import Any

import pytest
import yaml
from django.core.exceptions import ValidationError

from apps.catalog import rules
from apps.catalog.models import Price, validate_multipliers


def factor(rule: str, **params: Any) -> Decimal:
    """Of one rule, written as in the file."""
    written = yaml.safe_load(rule)
    assert list(rules.faults(written)) == []
    (name,) = written
    return rules.factors(written, params).get(name, Decimal(1))


@pytest.mark.parametrize(
    ("duration_s", "expected"), [(1, "1"), (5, "1"), (5.5, "1.1"), (10, "2"), (Decimal("7.5"), "1.5")]
)
def test_above_five_seconds_the_price_grows_with_the_duration(duration_s: Any, expected: str) -> None:
    """The article's CostOptimizer: `if (params.duration > 5) cost *= params.duration / 5`."""
    assert factor('{duration_s: {above: "5", per: "5"}}', duration_s=duration_s) == Decimal(expected)


@pytest.mark.parametrize(("resolution", "expected"), [("720p", "1"), ("1080p", "1.5"), (None, "1")])
def test_a_value_counts_as_its_rule_says_and_any_other_once(resolution: Any, expected: str) -> None:
    """The article's CostOptimizer: `if (params.resolution === '1080p') cost *= 1.5`."""
    assert factor('{resolution: {1080p: "1.5"}}', resolution=resolution) == Decimal(expected)


def test_any_other_value_counts_as_else_says() -> None:
    rule = '{size: {1024x1024: "1056", else: "6240"}}'
    assert factor(rule, width=1024, height=1024) == 1056
    assert factor(rule, width=1024, height=1536) == 6240


@pytest.mark.parametrize(("duration_s", "expected"), [(3, "1"), (5, "1"), (5.01, "2"), (10, "2")])
def test_steps_count_up_to_and_with_their_end(duration_s: Any, expected: str) -> None:
    assert factor('{duration_s: {steps: {"10": "2", "5": "1"}}}', duration_s=duration_s) == Decimal(expected)


@pytest.mark.parametrize(("side", "expected"), [(64, 1), (1024, 1), (1025, 2), (1448, 2), (1536, 3)])
def test_begun_megapixels_are_steps(side: int, expected: int) -> None:
    rule = '{megapixels: {steps: {"1.048576": "1", "2.097152": "2", "3.145728": "3"}}}'
    assert factor(rule, width=side, height=side) == expected


def test_beyond_the_last_step_there_is_no_price() -> None:
    with pytest.raises(ValueError, match="beyond the last step"):
        factor('{duration_s: {steps: {"5": "1"}}}', duration_s=6)


def test_rules_multiply_each_other_and_those_that_change_nothing_are_not_said() -> None:
    written = {
        "resolution": {"1080p": "1.5"},
        "duration_s": {"above": "5", "per": "5"},
        "voice": {"aria": "2"},
    }
    params = {"resolution": "1080p", "duration_s": 10, "voice": "liam"}
    assert rules.factors(written, params) == {"resolution": Decimal("1.5"), "duration_s": Decimal(2)}


@pytest.mark.parametrize(
    "written",
    [
        [],
        {"seed": {"1": "2"}},
        {"resolution": {}},
        {"resolution": "1.5"},
        {"resolution": {"1080p": 1.5}},
        {"resolution": {"1080p": "0"}},
        {"resolution": {"1080p": "-1"}},
        {"resolution": {"1080p": "NaN"}},
        {"resolution": {"1080p": "Infinity"}},
        {"resolution": {"1080p": "1,5"}},
        {"resolution": {1080: "1.5"}},
        {"duration_s": {"5": "1"}},
        {"duration_s": {"above": "5"}},
        {"duration_s": {"above": "5", "per": "0"}},
        {"duration_s": {"above": "5", "per": "5", "steps": {"5": "1"}}},
        {"duration_s": {"steps": {}}},
        {"duration_s": {"steps": {"five": "1"}}},
        {"duration_s": {"steps": {"5": 1}}},
        {"duration_s": {"steps": ["5"]}},
    ],
)
def test_a_rule_that_is_none_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        validate_multipliers(written)


def gaps(unit: str = "image", *, limits: Any = None, defaults: Any = None, **written: Any) -> list[str]:
    return Price(unit=unit, multipliers=written).gaps(limits=limits or {}, defaults=defaults or {})


def test_steps_must_reach_as_far_as_the_model_goes() -> None:
    five = {"steps": {"5": "1"}}
    assert gaps(duration_s=five, limits={"max_duration_s": 5}, defaults={"duration_s": 5}) == []
    assert gaps(duration_s=five, limits={"max_duration_s": 6}, defaults={"duration_s": 5})
    assert gaps(duration_s=five, defaults={"duration_s": 5})


def test_what_a_rule_counts_needs_a_default() -> None:
    above = {"above": "5", "per": "5"}
    assert gaps(duration_s=above) == ["no default for duration_s"]
    assert gaps(megapixels=above, defaults={"width": 1024}) == ["no default for megapixels"]
    assert gaps("second") == ["no default for duration_s"]


def test_a_price_per_token_needs_to_say_how_many_there_are_at_most() -> None:
    assert gaps("token", size={"1024x1024": "1056"})
    assert gaps("token")
    assert gaps("token", size={"1024x1024": "1056", "else": "6240"}) == []

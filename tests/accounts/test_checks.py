from typing import Any

import pytest

from apps.accounts.checks import check_pepper


@pytest.mark.parametrize("pepper", ["", "short", "development-only-secret-" + "0" * 40])
def test_a_weak_pepper_is_an_error_in_production_and_fine_in_development(pepper: str, settings: Any) -> None:
    settings.API_KEY_PEPPER = pepper
    settings.DEBUG = False
    assert [error.id for error in check_pepper()] == ["accounts.E001"]
    settings.DEBUG = True
    assert check_pepper() == []


def test_a_long_secret_pepper_is_fine(settings: Any) -> None:
    settings.DEBUG, settings.API_KEY_PEPPER = False, "k" * 32
    assert check_pepper() == []

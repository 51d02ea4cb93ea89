"""Who breaks something mends it. The short form runs with `make test`, `make chaos` adds the tests marked `long`."""

import pytest


@pytest.fixture(params=[20, pytest.param(200, marks=pytest.mark.long)])
def count(request: pytest.FixtureRequest) -> int:
    """How many jobs at once."""
    number: int = request.param
    return number

from collections.abc import Iterator
from typing import Any

import pytest

from apps.providers import signatures
from tests.fakes import simulator as fake
from tests.fakes.receiver import Receiver

simulator_process = fake.simulator_process
simulator = fake.simulator


@pytest.fixture
def odd_provider() -> Iterator[Receiver]:
    """A provider that answers whatever the test scripts."""
    with Receiver() as listening:
        yield listening


@pytest.fixture
def impatient(settings: Any) -> None:
    """A client that waits 0.2 s for an answer."""
    settings.PROVIDER_READ_TIMEOUT_S = settings.PROVIDER_RESULT_TIMEOUT_S = 0.2


@pytest.fixture(autouse=True)
def _no_keys_known() -> None:
    """Public keys are fetched anew: they may be fetched again only after a minute."""
    signatures.published.cache_clear()

from typing import Any

import pytest

from tests.fakes import simulator as fake

simulator_process = fake.simulator_process


@pytest.fixture
def simulator(simulator_process: fake.Simulator, settings: Any) -> fake.Simulator:
    """Reset, and configured as the provider `wavespeed`."""
    simulator_process.reset()
    settings.PROVIDERS = {"wavespeed": simulator_process.provider_settings}
    return simulator_process

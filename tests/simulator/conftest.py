from collections.abc import Iterator

import pytest

from tests.fakes import simulator as fake
from tests.fakes.receiver import Receiver
from tests.simulator.client import Client

simulator_process = fake.simulator_process
simulator = fake.simulator


@pytest.fixture
def client(simulator: fake.Simulator) -> Iterator[Client]:
    with Client(simulator) as opened:
        yield opened


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening

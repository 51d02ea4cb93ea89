"""The engine on its own: a catalog, a user, the provider's process, and books that must agree after every test."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from apps.accounts import caller
from apps.catalog import snapshot, sync
from apps.ops import reconcile
from tests.fakes import simulator as fake
from tests.fakes.receiver import Receiver
from tests.jobs.engine import Engine, Time, billed_usd, booked_usd

simulator_process = fake.simulator_process
simulator = fake.simulator


@pytest.fixture
def door() -> Iterator[Receiver]:
    """Where the provider's webhooks arrive."""
    with Receiver() as listening:
        yield listening


@pytest.fixture
def time() -> Iterator[Time]:
    with ExitStack() as undo:
        yield Time(undo)


@pytest.fixture
def engine(
    db: None, simulator: fake.Simulator, door: Receiver, time: Time, settings: Any, tmp_path: Path
) -> Iterator[Engine]:
    """Ends with the check that every dollar is where it belongs."""
    settings.PROVIDERS = {"wavespeed": simulator.provider_settings}
    settings.PUBLIC_URL = door.url
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "artifacts")},
        },
    }
    settings.MARK_DIR = str(tmp_path / "marking")
    snapshot.forget()
    caller.forget()
    sync.sync()
    driven = Engine(simulator, door, time)
    yield driven
    assert reconcile.differences() == []
    driven.provider_done()
    assert billed_usd(simulator) - booked_usd() == driven.unbooked_usd
    snapshot.forget()
    caller.forget()


@pytest.fixture
def impatient(settings: Any) -> None:
    """Provider calls that wait 0.3 s for an answer."""
    settings.PROVIDER_READ_TIMEOUT_S = 0.3

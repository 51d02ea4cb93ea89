"""What a worker counts as it happens: purchases as they end, and orders placed elsewhere."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from pytest_django import DjangoCaptureOnCommitCallbacks

from apps.core.telemetry import spool
from apps.jobs.states import JobStatus
from tests.fakes.simulator import Simulator
from tests.jobs import market
from tests.jobs.engine import Engine

pytestmark = pytest.mark.django_db
MODEL, ATTEMPTS = "fast-draft", "generation.attempts.total"


def test_attempts_are_counted_by_how_they_ended_and_fallbacks_by_why(
    engine: Engine,
    simulator: Simulator,
    settings: LazySettings,
    tmp_path: Path,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    settings.METRICS_DIR = str(tmp_path / "metrics")
    settings.PROVIDERS = market.configured(simulator)
    market.only_wavespeed()
    market.offer("replicate")
    with django_capture_on_commit_callbacks(execute=True):
        job = engine.finish(engine.submit("[fault:failed*1] a fox", model=MODEL))
    assert job.status == JobStatus.COMPLETED
    counted: dict[Any, Any] = spool.totals(tmp_path / "metrics")
    attempts = {labels: numbers for (name, labels), numbers in counted.items() if name == ATTEMPTS}
    assert attempts == {("wavespeed", MODEL, "failed"): [1], ("replicate", MODEL, "accepted"): [1]}
    assert counted["generation.fallbacks.total", (MODEL, "wavespeed", "generation_failed")] == [1]
    orders = counted["provider.call.seconds", ("replicate", "submit", "")]
    assert sum(orders[1:]) == 1

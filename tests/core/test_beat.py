"""Beat sleeps until a ring is due."""

from pathlib import Path

import pytest
from kombu.utils.imports import symbol_by_name

from genplatform.celery import app


@pytest.mark.parametrize("due_in_s", [0.002, 0.009, 0.5])
def test_it_never_wakes_before_a_ring_is_due(tmp_path: Path, due_in_s: float) -> None:
    scheduler = symbol_by_name(app.conf.beat_scheduler)(app, schedule_filename=str(tmp_path / "s"), lazy=True)
    assert due_in_s < scheduler.adjust(due_in_s) < due_in_s + 0.01


def test_what_is_due_is_rung_at_once(tmp_path: Path) -> None:
    scheduler = symbol_by_name(app.conf.beat_scheduler)(app, schedule_filename=str(tmp_path / "s"), lazy=True)
    assert scheduler.adjust(0) == 0

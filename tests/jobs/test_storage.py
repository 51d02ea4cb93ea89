"""Our own store fails: what is paid for waits for it and is never generated again."""

import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from apps.artifacts import store as artifacts
from apps.artifacts.models import Spooled
from apps.catalog import snapshot
from apps.catalog.models import Route
from apps.core import clock
from tests.jobs.engine import FREE, Engine


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The directory of the artifacts, before anything is in it."""
    return tmp_path / "artifacts"


@pytest.fixture
def away(store: Path) -> Iterator[Path]:
    """A store that takes nothing: a file stands where its directory should be."""
    store.write_text("not a directory")
    yield store
    if store.is_file():
        store.unlink()


def test_a_result_waits_until_the_store_is_back(engine: Engine, away: Path) -> None:
    job = engine.run(engine.submit("slow [time:0.1]"))
    engine.provider_done()
    for _ in range(12):
        job = engine.run(engine.due(job))
        assert (job.status, engine.statuses(job)) == ("running", ["submitted"])
        assert job.due_at == clock.now() + timedelta(seconds=10)
    away.unlink()
    job = engine.finish(job)
    assert (job.status, job.crashes) == ("completed", 0)
    assert len(engine.submits()) == 1


def test_a_result_that_came_with_the_answer_waits_too(engine: Engine, away: Path) -> None:
    engine.simulator.settings(time_scale=0)
    job = engine.run(engine.submit())
    assert engine.statuses(job) == ["submitted"]
    away.unlink()
    job = engine.finish(job)
    assert job.status == "completed"
    assert len(engine.submits()) == 1


@pytest.fixture
def answering(engine: Engine, settings: Any) -> None:
    """`standard` is made by a provider that answers with the picture itself, and gives no ticket."""
    base_url = f"{engine.simulator.base_url}/openai/v1"
    settings.PROVIDERS = {"openai": {"base_url": base_url, "api_key": engine.simulator.api_key}}
    taken = Route.objects.filter(model="standard", provider="wavespeed")
    taken.update(provider="openai", provider_model="gpt-image-2")
    snapshot.forget()


@pytest.mark.usefixtures("answering")
def test_a_picture_that_exists_nowhere_else_is_kept_as_soon_as_the_store_is_back(
    engine: Engine, away: Path
) -> None:
    job = engine.run(engine.submit(model="standard"))
    for _ in range(12):
        job = engine.validate(engine.due(job))
        assert (job.status, engine.statuses(job)) == ("running", ["fetched"])
        job = engine.run(engine.due(job))
    away.unlink()
    job = engine.finish(job)
    assert (job.status, job.crashes, len(engine.submits())) == ("completed", 0, 1), engine.story(job)
    with artifacts.open(job.outputs[0]["artifact_id"]) as content:
        assert len(content.read()) == job.outputs[0]["size_bytes"]
    assert not Spooled.objects.exists()


@pytest.mark.usefixtures("answering")
def test_a_picture_that_no_store_takes_in_time_is_the_platforms_loss(engine: Engine, away: Path) -> None:
    job = engine.run(engine.submit(model="standard"))
    engine.time.set(job.deadline_at)
    job = engine.validate(job)
    assert (job.status, job.error_code, job.cost_usd) == ("failed", "generation_failed", FREE)
    assert engine.absorbed(job) == engine.attempt(job).price_usd
    assert len(engine.submits()) == 1


def test_what_is_kept_waits_for_its_check_until_the_store_can_be_read(engine: Engine, store: Path) -> None:
    engine.simulator.settings(time_scale=0)
    job = engine.run(engine.submit())
    elsewhere = store.rename(store.with_name("elsewhere"))
    for _ in range(5):
        job = engine.validate(job)
        assert (job.status, engine.statuses(job)) == ("running", ["fetched"])
        assert job.due_at == clock.now() + timedelta(seconds=10)
        engine.due(job)
        job = engine.run(job)
    elsewhere.rename(store)
    job = engine.validate(job)
    assert (job.status, job.crashes) == ("completed", 0)
    assert len(engine.submits()) == 1


def test_a_store_that_stays_away_ends_the_job_at_its_deadline_uncharged(engine: Engine, store: Path) -> None:
    engine.simulator.settings(time_scale=0)
    job = engine.run(engine.submit())
    store.rename(store.with_name("elsewhere"))
    engine.time.set(job.deadline_at)
    job = engine.validate(job)
    assert (job.status, job.error_code, job.cost_usd) == ("failed", "generation_failed", FREE)
    assert engine.absorbed(job) == engine.attempt(job).price_usd
    assert len(engine.submits()) == 1


def test_a_provider_whose_files_cannot_be_downloaded_is_given_up_after_some_tries(
    engine: Engine, settings: Any
) -> None:
    """Its answers arrive, its files don't: nothing is delivered, and the platform bears the cost."""
    job = engine.run(engine.submit("slow [time:0.1]"))
    settings.ALLOW_LOOPBACK_TARGETS = False
    job = engine.finish(job)
    assert (job.status, job.error_code, job.cost_usd) == ("failed", "generation_failed", FREE)
    assert set(engine.statuses(job)) == {"rejected"}
    assert engine.absorbed(job) == sum(attempt.price_usd for attempt in engine.attempts(job))


def test_a_download_that_fails_once_is_tried_again_not_bought_again(engine: Engine, settings: Any) -> None:
    job = engine.run(engine.submit("slow [time:0.1]"))
    engine.provider_done()
    settings.ALLOW_LOOPBACK_TARGETS = False
    job = engine.run(engine.due(job))
    assert engine.statuses(job) == ["submitted"]
    settings.ALLOW_LOOPBACK_TARGETS = True
    assert engine.finish(job).status == "completed"
    assert len(engine.submits()) == 1


def test_a_full_disk_is_waited_for_and_nothing_is_bought_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is downloaded goes through a temporary file, where none can be made."""
    job = engine.run(engine.submit("slow [time:0.1]"))
    engine.provider_done()
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        for _ in range(7):
            job = engine.run(engine.due(job))
            assert (job.status, engine.statuses(job)) == ("running", ["submitted"])
    assert (engine.finish(job).status, len(engine.submits())) == ("completed", 1)

"""One job from submit to delivered, by every way the provider tells its end."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from apps.core import clock
from tests.jobs.engine import SMALL, Engine

KINDS: list[tuple[dict[str, Any], int, str, str]] = [
    ({"model": "fast-draft", "params": {**SMALL, "n": 3}}, 3, "image/png", "0.015"),
    ({"type": "video", "model": "clip", "params": {"duration_s": 1}}, 1, "video/mp4", "0.05"),
    (
        {"type": "audio", "model": "speech", "params": {}, "prompt": "Good evening. " * 10},
        1,
        "audio/wav",
        "0.00417",
    ),
]


@pytest.mark.parametrize(("asked", "count", "media_type", "cost"), KINDS, ids=["image", "video", "audio"])
def test_a_job_of_each_kind_is_delivered_and_charged(
    engine: Engine, asked: dict[str, Any], count: int, media_type: str, cost: str
) -> None:
    job = engine.finish(engine.submit(**asked))
    assert job.status == "completed", engine.story(job)
    assert [output["media_type"] for output in job.outputs] == [media_type] * count
    assert len({output["sha256"] for output in job.outputs}) == count
    assert job.cost_usd == Decimal(cost)
    assert engine.statuses(job) == ["accepted"]
    assert engine.hold(job) == "captured"
    assert engine.moves(job) == [("", "queued"), ("queued", "running"), ("running", "completed")]
    assert len(engine.submits()) == 1


def test_an_answer_that_is_the_result_needs_no_poll(engine: Engine) -> None:
    engine.simulator.settings(time_scale=0)
    job = engine.run(engine.submit())
    assert engine.statuses(job) == ["fetched"]
    job = engine.validate(job)
    assert job.status == "completed"
    assert engine.attempt(job).polls == 0


def test_a_ticket_leaves_the_job_until_half_of_such_jobs_are_done(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:30]"))
    attempt = engine.attempt(job)
    assert (job.status, attempt.status, attempt.provider_status) == ("running", "submitted", "generating")
    assert attempt.ticket
    assert job.lease_expires_at is None
    assert job.due_at == clock.now() + timedelta(seconds=job.quote["time_s"]["p50"])
    engine.finish(job)


def test_polls_become_rarer_up_to_the_longest_pause(engine: Engine) -> None:
    job = engine.submit("slow [time:200]")
    pauses = []
    for _ in range(14):
        job = engine.run(engine.due(job))
        assert job.due_at
        pauses.append((job.due_at - clock.now()).total_seconds())
    assert pauses[1:] == sorted(pauses[1:])
    assert pauses[-1] == 30
    assert engine.attempt(job).polls == 14
    engine.finish(job)


def test_a_touch_before_it_is_due_does_nothing(engine: Engine) -> None:
    job = engine.run(engine.submit("slow [time:30]"))
    before = job.due_at
    job = engine.run(job)
    assert job.due_at == before
    assert engine.attempt(job).polls == 1
    engine.finish(job)


def test_an_ended_job_is_not_touched_again(engine: Engine) -> None:
    job = engine.finish(engine.submit())
    engine.time.forward(3600)
    again = engine.validate(engine.run(job))
    assert (again.status, again.due_at, again.finished_at) == ("completed", None, job.finished_at)
    assert len(engine.submits()) == 1


def test_the_provider_is_asked_for_what_the_user_asked(engine: Engine) -> None:
    job = engine.finish(engine.submit(params={"width": 128, "height": 64, "seed": 7}))
    output = job.outputs[0]
    assert (output["width"], output["height"]) == (128, 64)
    submitted = engine.submits()[0]
    assert submitted["model"] == "wavespeed-ai/fast-draft"
    assert submitted["idempotency_key"] == str(engine.attempt(job).pk)


def test_a_provider_that_cannot_be_reached_for_a_poll_says_nothing_about_the_work(
    engine: Engine, settings: Any
) -> None:
    job = engine.run(engine.submit("slow [time:5]"))
    there = settings.PROVIDERS
    settings.PROVIDERS = {"wavespeed": {**there["wavespeed"], "base_url": "http://127.0.0.1:9"}}
    for _ in range(8):
        job = engine.run(engine.due(job))
    assert (job.status, engine.statuses(job)) == ("running", ["submitted"])
    settings.PROVIDERS = there
    job = engine.finish(job)
    assert job.status == "completed"
    assert len(engine.submits()) == 1

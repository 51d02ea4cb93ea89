"""Whatever is wrong with what a provider delivers: nobody receives it, nobody but the platform pays for it, and the
books equal the provider's bill (which `engine` checks after each test)."""

from decimal import Decimal
from typing import Any

import pytest

from apps.artifacts import store as artifacts
from apps.core import http
from apps.providers import call
from apps.providers.contract import Result, Ticket
from tests.jobs.engine import FREE, Engine

PRICE = Decimal("0.005")


@pytest.mark.parametrize(
    "fault",
    [
        "truncated",
        "html-output",
        "wrong-size",
        "expired",
        "redirect-private",
        "short-output",
        "cut-output",
        "empty",
    ],
)
def test_a_spoilt_output_is_bought_again_at_the_platforms_cost(engine: Engine, fault: str) -> None:
    job = engine.finish(engine.submit(f"[fault:{fault}*1] a fox"))
    assert (job.status, engine.statuses(job)[-1]) == ("completed", "accepted")
    assert engine.attempts(job)[0].error_kind == "bad_output"
    assert engine.attempts(job)[0].billed == "yes"
    assert (job.cost_usd, engine.absorbed(job)) == (PRICE, PRICE)
    assert len(engine.submits()) == 2


def test_a_media_type_that_lies_about_a_good_picture_does_no_harm(engine: Engine) -> None:
    job = engine.finish(engine.submit("[fault:wrong-type] a fox"))
    assert (job.status, job.outputs[0]["media_type"]) == ("completed", "image/png")
    assert (job.cost_usd, engine.absorbed(job)) == (PRICE, FREE)


def test_an_output_without_end_is_cut_off(engine: Engine, settings: Any) -> None:
    settings.ARTIFACT_MAX_BYTES = 1_000_000
    job = engine.finish(engine.submit("[fault:huge*1] a fox"))
    assert (job.status, job.cost_usd, engine.absorbed(job)) == ("completed", PRICE, PRICE)


def test_an_output_that_drips_is_given_up(engine: Engine) -> None:
    job = engine.run(engine.submit("[fault:drip=0.2] a fox"))
    engine.provider_done()
    answer = call.poll("wavespeed", Ticket.from_json(engine.attempt(job).ticket or ""))
    assert isinstance(answer, Result)
    with pytest.raises(http.FetchFailed) as caught:
        artifacts.fetch(team_id=job.team_id, url=answer.outputs[0].url, kind="image", timeout_s=0.5)
    assert caught.value.kind == "timeout"
    # What was bought has not been paid: the test ends before the job does.
    engine.unbooked_usd = PRICE


def test_fewer_pictures_than_ordered_are_not_the_order(engine: Engine) -> None:
    params = {"width": 64, "height": 64, "n": 3}
    job = engine.finish(engine.submit("[fault:wrong-n*1] a fox", params=params))
    assert (job.status, engine.statuses(job)) == ("completed", ["rejected", "accepted"])
    assert (len(job.outputs), job.cost_usd, engine.absorbed(job)) == (3, 3 * PRICE, 3 * PRICE)


def test_more_pictures_than_ordered_are_not_delivered(engine: Engine) -> None:
    job = engine.finish(engine.submit("[fault:wrong-n] a fox"))
    assert (job.status, len(job.outputs), job.cost_usd) == ("completed", 1, PRICE)


@pytest.mark.parametrize("fault", ["blank", "black"])
def test_a_picture_without_a_picture_is_bought_again_at_the_platforms_cost(
    engine: Engine, fault: str
) -> None:
    job = engine.finish(engine.submit(f"[fault:{fault}*1] a fox"))
    assert (job.status, engine.statuses(job)) == ("completed", ["rejected", "accepted"])
    assert (job.cost_usd, engine.absorbed(job)) == (PRICE, PRICE)

"""Jobs made by the providers that answer with the result itself: delivered, checked and charged like any other."""

from typing import Any

import pytest

from apps.artifacts import store
from tests.jobs.engine import Engine


@pytest.fixture
def answering(engine: Engine, settings: Any) -> None:
    """The three of them, and nobody else, at the simulator with the catalog's prices."""
    url, key = engine.simulator.base_url, engine.simulator.api_key
    paths = {"openai": "openai/v1", "stability": "stability", "elevenlabs": "elevenlabs"}
    settings.PROVIDERS = {name: {"base_url": f"{url}/{path}", "api_key": key} for name, path in paths.items()}
    engine.simulator.settings(prices={"core": "0.03", "multilingual": "0.10"})


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize(
    ("model", "kind", "media_type"),
    [
        ("stable-image-core", "image", "image/png"),
        ("gpt-image-medium", "image", "image/png"),
        ("narration", "audio", "audio/mpeg"),
    ],
)
def test_a_job_is_delivered_in_one_touch_and_charged_once(
    engine: Engine, model: str, kind: str, media_type: str
) -> None:
    job = engine.submit(model=model, type=kind, params={})
    price_usd = job.quote["routes"][0]["amount_usd"]
    if model.startswith("gpt-image"):
        # By tokens in the catalog; by the picture in the simulator.
        engine.simulator.settings(prices={"image": price_usd})
    job = engine.run(job)
    assert engine.statuses(job) == ["fetched"]
    job = engine.finish(job)
    assert (job.status, engine.statuses(job)) == ("completed", ["accepted"]), engine.story(job)
    assert len(engine.submits()) == 1
    (output,) = job.outputs
    assert output["media_type"] == media_type
    with store.open(output["artifact_id"]) as content:
        assert len(content.read()) == output["size_bytes"]


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize("model", ["stable-image-core", "narration"])
def test_a_result_that_is_a_page_under_the_results_name_is_bought_but_not_charged(
    engine: Engine, model: str
) -> None:
    kind = "audio" if model == "narration" else "image"
    prompt = "a fox [fault:html-output*1]"
    job = engine.finish(engine.submit(prompt, model=model, type=kind, params={}))
    assert job.status == "completed", engine.story(job)
    assert engine.statuses(job) == ["rejected", "accepted"]
    assert len(engine.submits()) == 2
    assert engine.absorbed(job) == job.cost_usd


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize("model", ["stable-image-core", "narration"])
def test_what_moderation_stops_ends_the_job_for_nothing(engine: Engine, model: str) -> None:
    kind = "audio" if model == "narration" else "image"
    job = engine.finish(engine.submit("a fox [fault:nsfw]", model=model, type=kind, params={}))
    assert (job.status, job.error_code) == ("failed", "content_rejected")
    assert len(engine.submits()) == 1

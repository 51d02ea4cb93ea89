"""How many statements each touch of a job costs: a touch is a few round trips, whatever it decides."""

from collections.abc import Callable

from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.jobs import run, validate
from apps.providers import registry
from apps.validation import standards, takedowns
from apps.validation.checks.results import DEFAULT
from apps.webhooks import endpoints
from tests.jobs.engine import Engine

# Claim, the attempt's row, its ticket with leaving the job. Claim, the artifact, the fetched attempt with leaving.
BUY, COLLECT = 3, 3
# Claim, the file's place, its measures; begin, the end of job and attempt, money, usage, cache, who is next, commit.
JUDGE = 10


def statements(touch: Callable[[], None]) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        touch()
    return [query["sql"].strip()[:90] for query in captured.captured_queries]


def test_buying_collecting_and_judging_are_a_few_statements_each(engine: Engine) -> None:
    job = engine.submit("a heron", cache="exact")
    # Remembered: asked once in a while, not for each job.
    assert registry.is_available("wavespeed")
    assert not endpoints.wanting(job.team_id, "job.completed")
    bought = statements(lambda: run.run(job.pk))
    engine.provider_done()
    engine.due(job)
    collected = statements(lambda: run.run(job.pk))
    assert standards.of(model=job.model, team_id=job.team_id) == DEFAULT
    assert takedowns.find("", None) == ""
    judged = statements(lambda: validate.validate(job.pk))
    assert engine.fresh(job).status == "completed"
    for seen, limit in ((bought, BUY), (collected, COLLECT), (judged, JUDGE)):
        assert len(seen) <= limit, "\n".join(seen)

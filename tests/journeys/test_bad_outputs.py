"""A tenth of what the provider delivers is bad, in every way that it can be. Nobody gets it, no user pays for it."""

from collections import Counter
from decimal import Decimal

import pytest

from apps.jobs.models import Attempt, Job
from apps.ledger.models import Entry
from apps.ops import reconcile
from tests.jobs.conftest import door, engine, simulator, simulator_process, time
from tests.jobs.engine import Engine

__all__ = ["door", "engine", "simulator", "simulator_process", "time"]

PRICE = Decimal("0.005")
# The provider's own flag ends a job: what it calls unsafe is not shopped around.
FAULTS = ("blank", "truncated", "wrong-size", "black", "html-output", "nsfw")


def deliver(engine: Engine, count: int) -> None:
    """`count` jobs of which every tenth gets a bad output first."""
    bad: dict[str, str] = {}
    jobs: list[Job] = []
    for number in range(count):
        fault = FAULTS[number // 10 % len(FAULTS)] if number % 10 == 0 else ""
        tag = f"[fault:{fault}*1] " if fault else ""
        job = engine.finish(engine.submit(f"{tag}a fox, number {number}", fallback_models=["standard"]))
        jobs.append(job)
        if fault:
            bad[str(job.pk)] = fault
    for job in jobs:
        check(engine, job, bad.get(str(job.pk), ""))
    statuses = Counter(Attempt.objects.values_list("status", flat=True))
    assert statuses["rejected"] == len(bad) == count // 10
    absorbed = Entry.objects.filter(kind=Entry.Kind.PLATFORM_ABSORBED)
    assert sum(absorbed.values_list("amount_usd", flat=True), Decimal(0)) == PRICE * len(bad)
    assert reconcile.differences() == []


def check(engine: Engine, job: Job, fault: str) -> None:
    """As the user sees it: what is delivered is good, what is bad is neither delivered nor paid."""
    shown = engine.user.api.get(f"/v1/jobs/{job.pk}").json()
    told = [attempt["status"] for attempt in shown["attempts"]]
    if fault == "nsfw":
        assert (shown["status"], shown["outputs"], shown["cost_usd"], told) == (
            "failed",
            [],
            "0",
            ["rejected"],
        )
        return
    assert (shown["status"], told) == ("completed", ["rejected", "accepted"] if fault else ["accepted"])
    accepted = shown["attempts"][-1]
    assert Decimal(shown["cost_usd"]) == Decimal(accepted["price_usd"])
    assert shown["quality"]["passed"]
    rejected = Attempt.objects.filter(job=job, status="rejected").values_list("outputs", flat=True)
    refused = {output["artifact_id"] for outputs in rejected for output in outputs}
    assert not refused & {output["artifact_id"] for output in shown["outputs"]}
    if fault:
        assert [attempt["model"] for attempt in shown["attempts"]] == ["fast-draft", "standard"]
        assert shown["attempts"][0]["error"]["kind"] == "bad_output"


def test_of_sixty_outputs_no_bad_one_is_delivered_or_charged(engine: Engine) -> None:
    deliver(engine, 60)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_of_five_hundred_outputs_none_is(engine: Engine) -> None:
    deliver(engine, 500)

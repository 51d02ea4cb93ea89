"""What answers a job instead of a new generation: certain rewordings at once, look-alikes at the first step of its
run; and what users say of it afterwards."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from apps.accounts import caller, keys
from apps.accounts.models import Team, User
from apps.artifacts.models import Artifact
from apps.caching import store
from apps.caching.models import CachedResult, CachedVector, SemanticMatch, Tombstone
from apps.caching.semantic import embedders, lookup
from apps.core import clock
from apps.core.ids import uuid7
from apps.jobs import submit
from apps.jobs.models import Job
from apps.jobs.serializers import JobRequest
from apps.ledger.models import Entry
from apps.ops import reconcile
from apps.providers import breaker_store
from tests import factories
from tests.fakes.receiver import Receiver
from tests.jobs import market
from tests.jobs.engine import SMALL, Engine
from tests.jobs.test_waiting import DRAFT

RED = "A black cat is sitting in a bathroom sink."
LIKE = "The black cat is inside the bathroom sink."
UNLIKE = "A white cat is sitting in a bathroom sink."


def ask(engine: Engine, prompt: str, **changes: Any) -> dict[str, Any]:
    """What the API answers to a request."""
    by = changes.pop("by", engine.user)
    asked = {**factories.body(prompt=prompt, params=SMALL), **changes}
    answer: dict[str, Any] = by.api.post("/v1/jobs", asked, format="json").json()
    return answer


def feedback(engine: Engine, job_id: object, verdict: str) -> Any:
    return engine.user.api.post(f"/v1/jobs/{job_id}/feedback", {"verdict": verdict}, format="json")


def generated(engine: Engine, prompt: str, **changes: Any) -> Job:
    """A job of that prompt that was bought, its result in the cache and in the index."""
    job = engine.finish(engine.submit(prompt, **{"cache": "account", **changes}))
    assert job.status == "completed", engine.story(job)
    lookup.remember(source_id=job.pk)
    return job


# --- Tiers 1 and 2 ----------------------------------------------------------------------------


def test_a_certain_rewording_is_answered_at_once(engine: Engine) -> None:
    job = generated(engine, "two cats on the grey sofa")
    again = ask(engine, "2 cats on a gray couch")
    assert (again["status"], again["cached"], again["cost_usd"]) == ("completed", True, "0")
    assert again["cache"] == {
        "tier": "canonical", "similarity": None, "job_id": str(job.pk), "saved_usd": again["saved_usd"],
    }  # fmt: skip
    assert Decimal(again["saved_usd"]) == job.cost_usd


def test_the_same_request_is_answered_by_the_exact_tier(engine: Engine) -> None:
    job = generated(engine, "two cats")
    answer = ask(engine, "two  cats")["cache"]
    assert (answer["tier"], answer["job_id"]) == ("exact", str(job.pk))


@pytest.mark.parametrize(
    "changes",
    [
        {"cache": "exact"},
        {"cache": "off"},
        {"variation": True},
        {"params": {**SMALL, "seed": 7}},
        {"params": {**SMALL, "n": 2}},
        {"model": "standard"},
    ],
    ids=str,
)
def test_a_rewording_is_generated_where_the_request_says_so(engine: Engine, changes: dict[str, Any]) -> None:
    generated(engine, "two cats")
    answer = ask(engine, "2 cats", **changes)
    assert (answer["status"], answer["cached"]) == ("queued", False)
    engine.finish(Job.objects.get(pk=answer["id"]))


def test_the_result_of_a_users_own_seed_answers_that_seed_only(engine: Engine) -> None:
    seeded = {**SMALL, "seed": 7}
    generated(engine, "two cats", params=seeded)
    assert ask(engine, "two cats", params=seeded)["cached"]
    answer = ask(engine, "two cats")
    assert not answer["cached"]
    engine.finish(Job.objects.get(pk=answer["id"]))


def test_what_was_answered_again_and_again_is_bought_once_its_result_is_gone(engine: Engine) -> None:
    job = generated(engine, "two cats")
    assert [ask(engine, "two cats")["cached"] for _ in range(3)] == [True] * 3
    assert store.purge(team_id=job.team_id, source_id=job.pk) == 1
    anew = ask(engine, "two cats")
    assert (anew["status"], anew["cached"]) == ("queued", False)
    assert engine.finish(Job.objects.get(pk=anew["id"])).cost_usd == job.cost_usd
    assert ask(engine, "two cats")["cache"]["job_id"] == anew["id"]
    assert reconcile.differences() == []


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("priority", ["interactive", "batch"])
def test_a_job_is_stored_as_it_was_answered(engine: Engine, priority: str, *, again: bool) -> None:
    """All of its columns, whether it was bought or answered from the cache, for the first time or as usual."""
    asked = JobRequest.model_validate(
        factories.body(prompt="two cats", params=SMALL, priority=priority, metadata={"a": 1})
    )
    who = caller.find(keys.parse(engine.user.key) or b"")
    assert who
    if again:
        generated(engine, "two cats")
    for _ in range(3):
        job, _ = submit.submit(who, asked, once=None, traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
        assert job.is_cached is again
        kept = Job.objects.get(pk=job.pk)
        names = [field.attname for field in Job._meta.concrete_fields]
        assert {name: getattr(kept, name) for name in names} == {name: getattr(job, name) for name in names}


def test_another_teams_result_answers_nobody_else(engine: Engine) -> None:
    generated(engine, "two cats")
    answer = ask(engine, "two cats", by=factories.someone())
    assert not answer["cached"]
    engine.finish(Job.objects.get(pk=answer["id"]))


@pytest.mark.parametrize("loss", ["deleted_at", "expires_at"])
def test_a_result_whose_artifact_is_gone_is_a_miss_and_is_replaced(engine: Engine, loss: str) -> None:
    job = generated(engine, "two cats")
    Artifact.objects.filter(pk=job.outputs[0]["artifact_id"]).update(**{loss: clock.now()})
    answer = ask(engine, "two cats")
    assert not answer["cached"]
    fresh = engine.finish(Job.objects.get(pk=answer["id"]))
    assert ask(engine, "two cats")["cache"]["job_id"] == str(fresh.pk)


def test_an_estimate_says_what_would_answer_it(engine: Engine) -> None:
    generated(engine, "two cats")
    asked = factories.body(prompt="2 cats", params=SMALL)
    outlook = engine.user.api.post("/v1/estimates", asked, format="json").json()["cache"]
    assert (outlook["outlook"], outlook["tier"]) == ("hit", "canonical")


@pytest.mark.parametrize(
    ("action", "prompt", "left"),
    [
        ("purge_like", "", {"a fox", "three dogs"}),
        ("purge_like", "a  Fox", {"two cats", "three dogs"}),
        ("purge_model", "", {"three dogs"}),
        ("purge_team", "", set()),
    ],
)
def test_ops_purges_the_cache_by_prompt_model_or_team_and_that_is_on_record(
    engine: Engine, action: str, prompt: str, left: set[str]
) -> None:
    for text, model in (("two cats", "fast-draft"), ("a fox", "fast-draft"), ("three dogs", "standard")):
        generated(engine, text, model=model)
    CachedResult.objects.create(
        team=factories.team(), fingerprint=b"f", prompt="two cats", model="fast-draft", source_id=uuid7(), outputs=[],
        cost_usd=1, expires_at=clock.now() + timedelta(days=1),
    )  # fmt: skip
    ops = Client()
    ops.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    chosen = CachedResult.objects.get(prompt="two cats", team=engine.user.user.team)
    asked = {"action": action, "_selected_action": [str(chosen.pk)], "prompt": prompt}
    assert ops.post(reverse("admin:caching_cachedresult_changelist"), asked).status_code == 302
    assert (
        set(CachedResult.objects.filter(team=engine.user.user.team).values_list("prompt", flat=True)) == left
    )
    assert CachedResult.objects.exclude(team=engine.user.user.team).count() == 1
    record = LogEntry.objects.get()
    assert (str(chosen.pk), "root") == (record.object_id, record.user.username)
    assert "cats" not in record.change_message


# --- Tier 3 -----------------------------------------------------------------------------------


@pytest.fixture
def semantic(engine: Engine, settings: Any) -> Engine:
    settings.EMBEDDER = "minilm"
    return engine


def switch(engine: Engine, mode: str) -> None:
    Team.objects.filter(users=engine.user.user).update(semantic_cache=mode)


def test_a_look_alike_is_served_before_anything_is_bought(semantic: Engine) -> None:
    engine = semantic
    job = generated(engine, RED)
    again = engine.run(engine.submit(LIKE, cache="semantic"))
    assert (again.status, again.cached_from, again.cache_tier) == ("completed", job.pk, "semantic")
    assert (again.cost_usd, again.saved_usd, again.outputs) == (Decimal(0), job.cost_usd, job.outputs)
    assert again.similarity
    assert 0.85 < again.similarity <= 1
    assert engine.attempts(again) == []
    assert engine.hold(again) == "released"
    shown = engine.user.api.get(f"/v1/jobs/{again.pk}").json()["cache"]
    assert (shown["tier"], shown["similarity"]) == ("semantic", again.similarity)


def test_a_job_that_waits_for_a_provider_is_looked_up_once(engine: Engine, settings: Any) -> None:
    market.only_wavespeed()
    breaker_store.force(market.breaker("wavespeed", DRAFT), "open")
    with Receiver() as running:
        settings.EMBEDDER, settings.EMBEDDINGS_URL = "endpoint", running.url
        job = engine.submit("a heron", cache="semantic")
        for _ in range(3):
            job = engine.run(engine.due(job))
            assert job.waiting_for == "forced_open"
        assert len(running.requests) == 1
        embedder = embedders.configured()
        assert isinstance(embedder, embedders.Endpoint)
        with embedder:
            breaker_store.force(market.breaker("wavespeed", DRAFT), "")
            assert engine.finish(job).status == "completed"


@pytest.mark.parametrize("mode", ["shadow", "on", "off"])
def test_the_team_says_whether_look_alikes_are_served(semantic: Engine, mode: str) -> None:
    engine = semantic
    switch(engine, mode)
    job = generated(engine, RED)
    again = engine.finish(engine.submit(LIKE, cache="account"))
    assert again.cached_from == (job.pk if mode == "on" else None)
    noted = list(SemanticMatch.objects.values_list("subject_id", "source_id", "served", "saved_usd"))
    assert noted == ([] if mode == "off" else [(again.pk, job.pk, mode == "on", job.cost_usd)])


def test_what_only_looks_alike_is_generated(semantic: Engine) -> None:
    engine = semantic
    generated(engine, RED)
    again = engine.finish(engine.submit(UNLIKE, cache="semantic"))
    assert again.cached_from is None
    assert not SemanticMatch.objects.exists()


def test_results_of_another_embedder_are_found_again_once_they_are_embedded_anew(semantic: Engine) -> None:
    engine = semantic
    job = generated(engine, RED)
    CachedVector.objects.update(embedder="another@1")
    missed = engine.finish(engine.submit(LIKE, cache="semantic"))
    assert missed.cached_from is None
    store.purge(team_id=missed.team_id, source_id=missed.pk)
    call_command("semantic_reembed")
    again = engine.run(engine.submit(LIKE, cache="semantic"))
    assert again.cached_from == job.pk


def test_an_embedder_that_is_away_fails_no_job(engine: Engine, settings: Any) -> None:
    settings.EMBEDDER, settings.EMBEDDINGS_URL = "endpoint", "http://127.0.0.1:9"
    generated(engine, RED)
    assert engine.finish(engine.submit(LIKE, cache="semantic")).status == "completed"
    assert not CachedVector.objects.exists()


def test_a_kind_of_difference_that_proved_wrong_is_not_served_any_more(semantic: Engine) -> None:
    engine = semantic
    generated(engine, RED)
    again = engine.run(engine.submit(LIKE, cache="semantic"))
    assert feedback(engine, again.pk, "wrong_match").status_code == 200
    assert SemanticMatch.objects.get().judged == "wrong"
    Tombstone.objects.all().delete()
    another = engine.finish(engine.submit("The black cat is within the bathroom sink.", cache="semantic"))
    assert another.cache_tier != "semantic"
    for job in Job.objects.filter(due_at__isnull=False):
        engine.finish(job)


# --- Feedback ---------------------------------------------------------------------------------


def test_a_wrong_match_is_buried_and_generated_afresh(engine: Engine) -> None:
    first = generated(engine, "two cats")
    wrong = ask(engine, "2 cats")
    given = feedback(engine, wrong["id"], "wrong_match").json()
    assert (given["refunded_usd"], given["error"], given["job"]["cached"]) == ("0", None, False)
    fresh = engine.finish(Job.objects.get(pk=given["job"]["id"]))
    assert fresh.status == "completed"
    assert len(engine.submits()) == 2
    # In any certain wording the new one answers, never the buried one again.
    assert {ask(engine, prompt)["cache"]["job_id"] for prompt in ("2 cats", "two cats")} <= {
        str(fresh.pk), str(first.pk),
    }  # fmt: skip
    assert ask(engine, "there are 2 cats")["cache"]["job_id"] == str(fresh.pk)


def test_a_share_that_was_paid_for_a_wrong_match_comes_back(engine: Engine, settings: Any) -> None:
    settings.SINGLE_FLIGHT_SHARE = Decimal("0.5")
    first, second = engine.submit("two cats", cache="account"), engine.submit("two cats", cache="account")
    engine.finish(first)
    second = engine.run(second)
    engine.unbooked_usd = -second.cost_usd
    given = feedback(engine, second.pk, "bad_quality").json()
    assert Decimal(given["refunded_usd"]) == second.cost_usd > 0
    assert Entry.objects.get(reference=second.pk, kind=Entry.Kind.REFUND).amount_usd == second.cost_usd
    engine.finish(Job.objects.get(pk=given["job"]["id"]))


def test_a_bad_result_is_served_to_nobody_again_and_drawn_with_a_new_seed(engine: Engine) -> None:
    job = generated(engine, "two cats")
    given = feedback(engine, job.pk, "bad_quality").json()
    assert not CachedResult.objects.exists()
    fresh = engine.finish(Job.objects.get(pk=given["job"]["id"]))
    assert fresh.params["seed"] != job.params["seed"]
    assert given["refunded_usd"] == "0", "the provider was paid for it"
    assert ask(engine, "two cats")["cache"]["job_id"] == str(fresh.pk)


def test_a_verdict_is_given_once(engine: Engine) -> None:
    job = generated(engine, "two cats")
    assert feedback(engine, job.pk, "good").json() == {"refunded_usd": "0", "job": None, "error": None}
    again = feedback(engine, job.pk, "bad_quality")
    assert (again.status_code, again.json()["code"]) == (409, "feedback_refused")
    assert CachedResult.objects.exists()


def test_what_was_generated_for_a_request_is_no_wrong_match(engine: Engine) -> None:
    job = generated(engine, "two cats")
    assert feedback(engine, job.pk, "wrong_match").status_code == 409


def test_without_budget_the_verdict_counts_and_nothing_is_generated(engine: Engine) -> None:
    engine.user = factories.someone(tier=factories.tier(monthly_budget_usd=Decimal("0.005")))
    job = generated(engine, "two cats")
    given = feedback(engine, job.pk, "bad_quality").json()
    assert (given["job"], given["error"]["code"]) == (None, "budget_exceeded")
    assert not CachedResult.objects.exists()


# --- Purge ------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["job_id", "model", "prompt", "all"])
def test_a_team_admin_purges_what_the_cache_knows(semantic: Engine, what: str) -> None:
    engine = semantic
    engine.user = factories.someone(is_team_admin=True)
    job = generated(engine, "two cats")
    assert CachedVector.objects.count() == 1
    wanted = {"job_id": str(job.pk), "model": "fast-draft", "prompt": "2 cats", "all": True}
    answer = engine.user.api.post("/v1/cache/purge", {what: wanted[what]}, format="json")
    assert answer.json() == {"purged": 1}
    assert not CachedVector.objects.exists()
    again = ask(engine, "two cats")
    assert not again["cached"]
    engine.finish(Job.objects.get(pk=again["id"]))


def test_a_purge_leaves_other_teams_and_other_prompts(engine: Engine) -> None:
    generated(engine, "two cats")
    generated(engine, "two dogs")
    other = factories.someone(is_team_admin=True)
    assert other.api.post("/v1/cache/purge", {"all": True}, format="json").json() == {"purged": 0}
    assert store.purge(team_id=engine.user.user.team_id, prompt="two birds") == 0  # type: ignore[arg-type]
    assert store.purge(team_id=engine.user.user.team_id, prompt="2 dogs") == 1  # type: ignore[arg-type]
    assert ask(engine, "two cats")["cached"]


def test_only_team_admins_purge_and_say_exactly_what(engine: Engine) -> None:
    assert engine.user.api.post("/v1/cache/purge", {"all": True}, format="json").status_code == 403
    admin = factories.someone(is_team_admin=True)
    for body in ({}, {"all": True, "model": "x"}, {"all": False}):
        assert admin.api.post("/v1/cache/purge", body, format="json").status_code == 422

"""What becomes of an output that the checks refuse, and what is done to one that they accept."""

import hashlib
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from PIL import Image

from apps.accounts.models import User
from apps.artifacts import store
from apps.artifacts.models import Artifact
from apps.caching.models import CachedResult
from apps.jobs.models import Attempt, Job
from apps.ledger.models import Entry
from apps.validation import service, standards, takedowns
from apps.validation.marking import credentials, xmp
from apps.validation.models import QualityStandard, Takedown
from tests import factories
from tests.fakes.receiver import Answer, Receiver
from tests.jobs.engine import FREE, Engine
from tests.jobs.test_policy import opinion
from tests.validation.test_judge import judged

PRICE = Decimal("0.005")


def served(job: Job) -> bytes:
    """As a client downloads it."""
    return read(store.signed_url(job.outputs[0]["artifact_id"]))


def read(url: str, status: int = 200) -> bytes:
    answer: Any = Client().get("/" + url.split("/", 3)[3])
    assert answer.status_code == status
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def test_a_delivered_picture_says_that_a_model_made_it_and_a_change_shows(engine: Engine) -> None:
    job = engine.finish(engine.submit(cache="exact"))
    content = served(job)
    assert credentials.state(content, "image/png") == "valid"
    assert xmp.is_in(content, "image/png")
    changed = bytearray(content)
    changed[-60] ^= 1
    assert credentials.state(bytes(changed), "image/png") == "invalid"
    assert hashlib.sha256(content).hexdigest() == job.outputs[0]["sha256"]
    assert len(content) == job.outputs[0]["size_bytes"]
    artifact = Artifact.objects.get()
    assert (artifact.sha256, artifact.size_bytes) == (job.outputs[0]["sha256"], len(content))
    assert CachedResult.objects.get().outputs == job.outputs == engine.attempt(job).outputs
    assert job.quality
    legal = next(check for check in job.quality["checks"] if check["name"] == "legal_compliance")
    assert legal["details"]["marking"] == {"c2pa": "valid", "xmp": True}


def test_marking_leaves_one_file_and_the_picture_as_it_was(engine: Engine, settings: Any) -> None:
    job = engine.finish(engine.submit())
    folder = Path(settings.STORAGES["default"]["OPTIONS"]["location"])
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 1
    assert Image.open(io.BytesIO(served(job))).size == (64, 64)


def test_the_report_is_in_the_answer_with_its_coverage(engine: Engine) -> None:
    job = engine.finish(engine.submit())
    quality = engine.user.api.get(f"/v1/jobs/{job.pk}").json()["quality"]
    assert (quality["passed"], quality["coverage"]) == (True, "2 of 4")
    checks = {check["name"]: check for check in quality["checks"]}
    assert checks["content_alignment"]["status"] == checks["content_safety"]["status"] == "skipped"
    assert checks["content_alignment"]["score"] is None
    assert 0 < checks["technical_quality"]["score"] <= 1


@pytest.mark.parametrize("fault", ["blank", "black", "truncated", "wrong-size", "html-output"])
def test_a_bad_picture_is_kept_from_the_user_in_every_way(engine: Engine, fault: str) -> None:
    job = engine.finish(engine.submit(f"[fault:{fault}*1] a fox"))
    assert (job.status, engine.statuses(job)) == ("completed", ["rejected", "accepted"])
    assert (job.cost_usd, engine.absorbed(job)) == (PRICE, PRICE)


def test_a_refused_file_is_in_quarantine_for_ops_and_goes_in_time(engine: Engine, settings: Any) -> None:
    job = engine.finish(engine.submit("[fault:blank*1] a fox"))
    refused = engine.attempts(job)[0]
    assert refused.quality
    assert refused.quality["checks"][0]["details"]["problems"]
    artifact_id = refused.outputs[0]["artifact_id"]
    assert b"refused" in read(store.signed_url(artifact_id), 410)
    assert read(store.signed_url(artifact_id, reader=store.OPS)).startswith(b"\x89PNG")
    engine.time.forward(settings.QUARANTINE_S + 1)
    assert store.expire() == 1
    assert served(job), "what was delivered stays"


def test_a_standard_holds_for_its_model_and_a_team_may_have_another(engine: Engine) -> None:
    QualityStandard.objects.create(model="fast-draft", required=["content_alignment"])
    standards.forget()
    job = engine.finish(engine.submit("a fox", fallback_models=["standard"]))
    refused, accepted = engine.attempts(job)
    assert (refused.model, refused.error_kind, accepted.model) == ("fast-draft", "bad_output", "standard")
    QualityStandard.objects.create(team=engine.user.user.team, shadow=["content_alignment"])
    standards.forget()
    job = engine.finish(engine.submit("a fox"))
    assert (job.status, engine.statuses(job)) == ("completed", ["accepted"])
    assert job.quality
    shadowed = next(check for check in job.quality["checks"] if check["shadow"])
    assert (shadowed["name"], shadowed["status"]) == ("content_alignment", "failed")


def test_a_required_check_that_can_not_be_made_refuses(engine: Engine) -> None:
    QualityStandard.objects.create(required=["content_safety"])
    standards.forget()
    job = engine.finish(engine.submit())
    assert (job.status, job.error_code) == ("failed", "content_rejected")
    assert "content_safety is required" in engine.attempts(job)[0].error_message
    assert engine.statuses(job) == ["rejected", "rejected"]
    assert (job.cost_usd, engine.hold(job)) == (FREE, "released")


@pytest.mark.parametrize("by", ["bytes", "look", "mirror image"])
def test_what_was_taken_down_is_not_delivered_again(engine: Engine, by: str) -> None:
    first = engine.finish(engine.submit("a fox", params={"width": 64, "height": 64, "seed": 7}))
    assert first.quality
    found = first.quality["checks"][1]["details"]
    image = Image.open(io.BytesIO(served(first)))
    if by == "mirror image":
        found = {**found, "phash": takedowns.text(takedowns.phash(takedowns._mirrored(image)))}
    named = {"sha256": found["sha256"]} if by == "bytes" else {"phash": found["phash"]}
    Takedown.objects.create(reason="court order 7", **named)
    takedowns.forget()
    job = engine.finish(engine.submit("a fox", params={"width": 64, "height": 64, "seed": 7}))
    assert (job.status, job.error_code) == ("failed", "content_rejected")
    assert "court order 7" in engine.attempts(job)[0].error_message
    assert engine.statuses(job) == ["rejected", "rejected"], "at most one retry"
    other = engine.finish(engine.submit("an owl on a branch", params={"width": 64, "height": 64, "seed": 99}))
    assert other.status == "completed"


@pytest.fixture
def moderator(settings: Any) -> Iterator[Receiver]:
    with Receiver() as running:
        settings.MODERATION_URL = f"{running.url}/v1/moderations"
        yield running
        service.close()


def test_an_unsafe_picture_is_bought_anew_once(engine: Engine, moderator: Receiver) -> None:
    fine, unsafe = opinion(sexual=0.01), opinion(sexual=0.95)
    moderator.answers(fine, unsafe, fine)
    job = engine.finish(engine.submit("a fox"))
    assert (job.status, engine.statuses(job)) == ("completed", ["rejected", "accepted"])
    assert engine.attempts(job)[0].error_kind == "unsafe_output"
    sent = json.loads(moderator.requests[1].body)["input"][0]
    assert sent["image_url"]["url"].startswith("data:image/png;base64,")
    moderator.answers(fine, unsafe, unsafe)
    twice = engine.finish(engine.submit("a fox"))
    assert (twice.status, twice.error_code) == ("failed", "content_rejected")
    assert engine.statuses(twice) == ["rejected", "rejected"]
    assert (twice.cost_usd, engine.absorbed(twice)) == (FREE, 2 * PRICE)


def test_while_the_moderation_of_pictures_is_away_the_check_is_repeated_not_the_purchase(
    engine: Engine, moderator: Receiver
) -> None:
    moderator.answers(opinion(sexual=0.01), Answer(status=503), Answer(status=503), opinion(sexual=0.01))
    job = engine.finish(engine.submit("a fox"))
    assert (job.status, engine.statuses(job), len(engine.submits())) == ("completed", ["accepted"], 1)
    assert job.quality
    assert job.quality["coverage"] == "3 of 4"


@pytest.fixture
def judge(settings: Any) -> Iterator[Receiver]:
    with Receiver() as running:
        settings.VISION_JUDGE_URL = f"{running.url}/v1/chat/completions"
        yield running
        service.close()


def test_what_the_judge_refuses_is_bought_elsewhere(engine: Engine, judge: Receiver) -> None:
    judge.answers(judged(0.1), judged(0.9))
    job = engine.finish(engine.submit("a fox", fallback_models=["standard"]))
    refused, accepted = engine.attempts(job)
    assert (refused.error_kind, accepted.status, accepted.model) == ("bad_output", "accepted", "standard")
    assert job.quality
    assert job.quality["coverage"] == "3 of 4"
    assert engine.absorbed(job) == PRICE


def test_while_the_judge_is_away_it_is_asked_again_and_the_purchase_is_not_repeated(
    engine: Engine, judge: Receiver
) -> None:
    judge.answers(Answer(status=503), Answer(status=503), judged(0.9))
    job = engine.finish(engine.submit("a fox"))
    assert (job.status, engine.statuses(job), len(engine.submits())) == ("completed", ["accepted"], 1)
    assert job.quality
    assert job.quality["coverage"] == "3 of 4"


def test_a_judge_that_stays_away_leaves_a_gap_in_the_coverage_and_no_pass(
    engine: Engine, judge: Receiver
) -> None:
    judge.answers(*[Answer(status=503)] * 20)
    began = engine.time.now
    job = engine.finish(engine.submit("a fox"))
    assert (job.status, engine.statuses(job)) == ("completed", ["accepted"])
    assert 60 <= (engine.time.now - began).total_seconds() < 90
    assert job.quality
    missing = next(check for check in job.quality["checks"] if check["name"] == "content_alignment")
    assert (missing["status"], missing["passed"], missing["score"]) == ("skipped", None, None)
    assert "given up" in missing["details"]["why"]
    assert job.quality["coverage"] == "2 of 4"
    assert "unfinished_since" not in job.quality


def test_a_judge_that_is_required_is_waited_for(engine: Engine, judge: Receiver, settings: Any) -> None:
    QualityStandard.objects.create(required=["content_alignment"])
    standards.forget()
    settings.JOB_DEADLINE_S = 120
    judge.answers(*[Answer(status=503)] * 40)
    job = engine.finish(engine.submit("a fox"))
    assert (job.status, engine.statuses(job), job.cost_usd) == ("failed", ["rejected"], FREE)


# --- Ops overrules ----------------------------------------------------------------------------


@pytest.fixture
def ops() -> Client:
    client = Client()
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    return client


def act(ops: Client, action: str, attempt: Attempt, reason: str) -> str:
    asked = {"action": action, "_selected_action": [str(attempt.pk)], "reason": reason}
    answer = ops.post(reverse("admin:jobs_attempt_changelist"), asked, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_ops_sees_the_refused_picture_beside_its_checks(engine: Engine, ops: Client) -> None:
    job = engine.finish(engine.submit("[fault:blank*1] a fox"))
    refused = engine.attempts(job)[0]
    html = ops.get(reverse("admin:jobs_attempt_change", args=[refused.pk])).content.decode()
    assert "there is nothing to see: content" in html
    assert f"/v1/artifacts/{refused.outputs[0]['artifact_id']}" in html


def test_ops_accepts_a_refused_file_with_a_reason_on_record(engine: Engine, ops: Client) -> None:
    job = engine.finish(engine.submit("[fault:blank*1] a fox"))
    refused = engine.attempts(job)[0]
    assert "needs a reason" in act(ops, "accept", refused, " ")
    act(ops, "accept", refused, "white was asked for")
    assert read(store.signed_url(refused.outputs[0]["artifact_id"])).startswith(b"\x89PNG")
    refused.refresh_from_db()
    assert refused.quality
    assert refused.quality["override"]["by"] == "root"
    assert "white was asked for" in LogEntry.objects.get().change_message
    assert "decided" in act(ops, "accept", refused, "again")


def test_ops_takes_a_delivered_file_down_for_everybody_and_all_that_looks_like_it(
    engine: Engine, ops: Client
) -> None:
    seeded = {"width": 64, "height": 64, "seed": 7}
    job = engine.finish(engine.submit("a fox", params=seeded))
    content = served(job)
    told = engine.user.api.get(f"/v1/jobs/{job.pk}").json()["outputs"][0]
    assert not {"phash", "made_sha256"} & set(told), "ours alone"
    assert "needs a reason" in act(ops, "take_down", engine.attempt(job), "")
    act(ops, "take_down", engine.attempt(job), "court order 7")
    assert b"refused" in read(store.signed_url(job.outputs[0]["artifact_id"]), 410)
    assert (engine.user.budget["spent_usd"], CachedResult.objects.count()) == ("0", 0)
    delivered, made, look = (
        hashlib.sha256(content).hexdigest(), job.outputs[0]["made_sha256"], job.outputs[0]["phash"]
    )  # fmt: skip
    assert set(Takedown.objects.values_list("sha256", "phash")) == {(delivered, ""), (made, ""), ("", look)}
    entry = LogEntry.objects.get()
    assert ("taken down: court order 7" in entry.change_message, entry.user.username) == (True, "root")
    other = factories.someone()
    again = engine.finish(engine.submit("a fox", params=seeded, by=other))
    assert (again.status, again.error_code) == ("failed", "content_rejected")
    assert "court order 7" in engine.attempts(again)[0].error_message
    # Once listed it is listed once; what was refused can be taken down too.
    act(ops, "take_down", engine.attempts(again)[0], "court order 8")
    assert set(Takedown.objects.values_list("reason", flat=True)) == {"court order 7"}


def test_ops_withdraws_a_delivered_file_and_the_user_is_paid_back_once(engine: Engine, ops: Client) -> None:
    job = engine.finish(engine.submit("a fox", cache="exact"))
    accepted = engine.attempt(job)
    act(ops, "reject", accepted, "a real person")
    act(ops, "reject", accepted, "a real person")
    assert b"refused" in read(store.signed_url(job.outputs[0]["artifact_id"]), 410)
    assert not CachedResult.objects.exists()
    refund = Entry.objects.get(reference=job.pk, kind=Entry.Kind.REFUND)
    assert (abs(refund.amount_usd), engine.user.budget["spent_usd"]) == (PRICE, "0")

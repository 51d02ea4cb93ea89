"""One job is one trace, from the caller's request to the webhook; and no span holds what users wrote."""

import json
import logging
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from django.conf import LazySettings, settings
from django.db import connections, transaction
from django.db.utils import IntegrityError
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from apps.batches import sweep
from apps.catalog.models import Route
from apps.core.telemetry import spans, tracing
from apps.jobs.models import Job, ProviderBatch
from apps.jobs.states import JobStatus
from apps.webhooks.models import Delivery, Event
from genplatform.celery import app
from tests.batches.lines import item, jsonl, post
from tests.factories import body
from tests.fakes.receiver import Receiver
from tests.fakes.simulator import wait_until
from tests.jobs import market
from tests.jobs.engine import SMALL, Engine

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
CANARY = f"canary{uuid.uuid4().hex}"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    """What a collector would be sent, from now on."""
    kept = InMemorySpanExporter()
    provider = spans.instrument(SimpleSpanProcessor(spans.Cleaned(kept)))
    yield kept
    spans.stop(provider)


def submit(engine: Engine, prompt: str, traceparent: str = TRACEPARENT, **changes: Any) -> Job:
    sent = {"params": SMALL, "cache": "off", **body(prompt=prompt), **changes}
    answer = engine.user.api.post("/v1/jobs", sent, format="json", headers={"traceparent": traceparent})
    assert answer.status_code == 202, answer.content
    return Job.objects.get(pk=answer.json()["id"])


def rung(task: str, row: object) -> None:
    """As a worker hears the bell: the message has an id and nothing of a trace."""
    app.loader.import_default_modules()
    app.tasks[task].apply(kwargs={"v": 1, "id": str(row)}).get()


def names(exported: InMemorySpanExporter, trace_id: str = TRACE) -> set[str]:
    return {
        span.name for span in exported.get_finished_spans() if f"{span.context.trace_id:032x}" == trace_id
    }


def test_one_trace_shows_all_hops_of_a_job(engine: Engine, exported: InMemorySpanExporter) -> None:
    with Receiver() as customer:
        job = submit(engine, f"slow [time:1] {CANARY}", callback_url=customer.url)
        rung("jobs.run", job.pk)
        [webhook] = engine.webhooks()
        engine.deliver(webhook)
        rung("jobs.validate", job.pk)
        assert engine.fresh(job).status == JobStatus.COMPLETED
        rung("webhooks.deliver", Delivery.objects.get(event__subject_id=job.pk).pk)
        passed_on = customer.wait_for(1)[0].headers["traceparent"]
    assert names(exported) >= {
        "POST v1/jobs", "job.run", "provider.submit", "job.provider_event", "provider.poll", "fetch",
        "job.validate", "settle", "webhook.deliver",
    }  # fmt: skip
    assert passed_on.split("-")[1] == TRACE
    # The first of each name: a webhook's step has another touch of the job in it.
    by_name = {span.name: span for span in reversed(exported.get_finished_spans())}
    request = by_name["POST v1/jobs"]
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == CALLER
    assert dict(request.attributes or {})["job_id"] == str(job.pk)
    assert dict(by_name["provider.submit"].attributes or {}) == {"provider": "wavespeed", "outcome": "ok"}
    assert dict(by_name["webhook.deliver"].attributes or {})["outcome"] == "delivered"
    # The message began a trace of its own, which the step names.
    assert by_name["job.run"].links[0].context.trace_id == by_name["run/jobs.run"].context.trace_id
    assert "POST" in names(exported), "the call of the provider over HTTP"


def test_the_trace_of_a_batch_shows_the_hops_of_its_items(
    engine: Engine, exported: InMemorySpanExporter, settings: LazySettings
) -> None:
    settings.PROVIDERS = market.configured(engine.simulator)
    Route.objects.update(active=False)
    route = market.offer("openai", provider_model="gpt-image-2", usd="0.0125")

    def has_ended() -> bool:
        engine.time.forward(60)
        batch = ProviderBatch.objects.get()
        rung("jobs.poll_batch", batch.pk)
        batch.refresh_from_db()
        return batch.status == "ended"

    with Receiver() as customer:
        lines = jsonl(*(item(number, params=SMALL, cache="off") for number in range(2)))
        answer = post(engine.user, lines, f"callback_url={customer.url}", HTTP_TRACEPARENT=TRACEPARENT)
        assert answer.status_code == 202, answer.content
        jobs = list(Job.objects.filter(batch_id=answer.json()["id"]))
        rung("jobs.flush", route.pk)
        wait_until(has_ended)
        for job in jobs:
            rung("jobs.validate", job.pk)
        sweep.sweep()
        rung("webhooks.deliver", Delivery.objects.get(event__subject_id=answer.json()["id"]).pk)
        passed_on = customer.wait_for(1)[0].headers["traceparent"]
    assert names(exported) >= {
        "POST v1/batches", "job.flush", "job.batch", "fetch", "job.validate", "settle", "webhook.deliver",
    }  # fmt: skip
    assert passed_on.split("-")[1] == TRACE
    by_name = {span.name: span for span in exported.get_finished_spans()}
    assert dict(by_name["POST v1/batches"].attributes or {})["batch_id"] == str(jobs[0].batch_id)
    # One call ordered both: it is in the trace of the task that each of them names.
    ordering = by_name["provider.submit_batch"].context.trace_id
    flushed = [span for span in exported.get_finished_spans() if span.name == "job.flush"]
    assert {str((span.attributes or {})["job_id"]) for span in flushed} == {str(job.pk) for job in jobs}
    assert {span.links[0].context.trace_id for span in flushed} == {ordering}


def test_no_span_holds_prompts_keys_or_queries(engine: Engine, exported: InMemorySpanExporter) -> None:
    engine.finish(submit(engine, f"[fault:failed*1] a {CANARY}"))
    engine.finish(submit(engine, f"[fault:content-rejected] a {CANARY}"))
    refused = engine.user.api.post(f"/v1/jobs?{CANARY}=1", {"prompt": CANARY}, format="json")
    assert refused.status_code == 422
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.filter(prompt__contains=CANARY).update(status="nonsense")
    with pytest.raises(RuntimeError), tracing.span("crash"):
        raise RuntimeError(CANARY)
    told = [span.to_json() for span in exported.get_finished_spans()]
    assert len(told) >= 10
    for secret in (CANARY, engine.user.key, engine.simulator.api_key):
        assert [text for text in told if secret in text] == []
    crash = next(json.loads(text) for text in told if '"crash"' in text)
    assert crash["attributes"] == {"error.type": "RuntimeError"}
    assert crash["status"]["status_code"] == "ERROR"


def test_statements_of_django_are_spans_without_their_values(
    engine: Engine, exported: InMemorySpanExporter
) -> None:
    fresh = connections["default"].copy()
    fresh.settings_dict["OPTIONS"].pop("pool", None)
    with tracing.step("job.run", TRACEPARENT), fresh.cursor() as cursor:
        cursor.execute("SELECT %s::text", [CANARY])
        assert cursor.fetchone() == (CANARY,)
    fresh.close()
    assert "SELECT" in names(exported)
    assert CANARY not in "".join(span.to_json() for span in exported.get_finished_spans())


@pytest.mark.parametrize(
    "given",
    ["", "nonsense", f"00-{'0' * 32}-{CALLER}-01", f"00-{TRACE}-{'0' * 16}-01", f"01-{TRACE}-{CALLER}-01"],
)
def test_a_traceparent_that_is_none_is_not_kept(engine: Engine, given: str) -> None:
    assert submit(engine, "a fox", given).traceparent is None


def test_without_a_collector_a_callers_trace_still_marks_the_row_and_the_logs(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    job = submit(engine, "[fault:failed*1] a fox")
    assert job.traceparent == TRACEPARENT
    with caplog.at_level(logging.INFO):
        engine.finish(job)
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    [called] = [line for line in lines if line["event"] == "provider.called"][:1]
    assert called["job_id"] == str(job.pk)
    assert called["team_id"] == str(job.team_id)
    assert called["trace_id"] == TRACE
    assert structlog.contextvars.get_contextvars() == {}


def test_with_a_collector_lines_of_the_log_name_the_span(
    engine: Engine, exported: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), tracing.step("job.run", TRACEPARENT, job_id="a job"):
        structlog.get_logger("a room").warning("something")
    line: Any = caplog.records[-1].msg
    [span] = exported.get_finished_spans()
    assert (line["trace_id"], line["span_id"]) == (TRACE, f"{span.context.span_id:016x}")


def test_a_trace_that_its_caller_does_not_sample_is_not_made(
    engine: Engine, exported: InMemorySpanExporter
) -> None:
    job = submit(engine, "a fox", f"00-{TRACE}-{CALLER}-00")
    engine.finish(job)
    assert names(exported) == set()
    assert Event.objects.filter(subject_id=job.pk).count() == 0


def test_a_logged_error_of_postgres_does_not_quote_the_row(engine: Engine) -> None:
    job = engine.submit(f"a\n{CANARY}")
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        Job.objects.filter(pk=job.pk).update(status="nonsense")
    assert CANARY in str(caught.value)
    told = (caught.type, caught.value, caught.tb)
    record = logging.LogRecord("a room", logging.ERROR, "", 0, "failed", None, told)
    formatter = settings.LOGGING["formatters"]["json"]
    line = formatter["()"](
        processors=formatter["processors"], foreign_pre_chain=formatter["foreign_pre_chain"]
    ).format(record)
    assert CANARY not in line
    assert "IntegrityError" in line
    engine.finish(job)


def test_what_is_kept_and_shown_of_a_failed_task_quotes_no_row(engine: Engine) -> None:
    job = submit(engine, f"a {CANARY}")

    @app.task
    def breaks() -> None:
        with transaction.atomic():
            Job.objects.filter(pk=job.pk).update(status="nonsense")

    failed = breaks.apply()
    assert isinstance(failed.result, IntegrityError)
    told = f"{failed.result!r} {failed.traceback}"
    assert "violates check constraint" in told
    assert CANARY not in told
    engine.finish(job)

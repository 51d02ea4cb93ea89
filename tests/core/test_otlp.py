"""Metrics by OTLP: what a collector is sent is what was counted, and one process of a machine sends it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from apps.core.telemetry import exporter, instruments, otlp, spool
from apps.core.telemetry.instruments import Totals
from apps.ledger import metrics as ledger
from apps.webhooks import metrics
from tests.core.test_telemetry import FORK
from tests.fakes.receiver import Answer, Receiver

DELIVERIES, TIMES = "webhook.deliveries.total", "webhook.delivery.seconds"


@pytest.fixture
def collector(settings: Any, tmp_path: Path) -> Iterator[Receiver]:
    settings.METRICS_DIR, settings.OTEL_EXPORT_INTERVAL_S = str(tmp_path), 0.05
    with Receiver() as listening:
        settings.OTEL_EXPORTER_OTLP_ENDPOINT = listening.url
        otlp._exporter.cache_clear()
        yield listening
    otlp._exporter.cache_clear()


def sent(collector: Receiver, count: int = 1) -> list[dict[str, Any]]:
    """Of each request: the instance, and name → the metric."""
    found = []
    for request in collector.wait_for(count):
        assert request.path == "/v1/metrics"
        [resource] = ExportMetricsServiceRequest.FromString(request.body).resource_metrics
        named = {each.key: each.value.string_value for each in resource.resource.attributes}
        metrics_ = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
        found.append({"instance": named["service.instance.id"], **metrics_})
    return found


def test_a_collector_is_sent_cumulative_sums_and_buckets(collector: Receiver) -> None:
    totals: Totals = {(DELIVERIES, ("delivered",)): [3], (ledger.HELD.name, ()): [0.25]}
    known = instruments.KNOWN[TIMES]
    for value in (0.002, 0.002, 99):
        instruments.observe(totals, known, ("delivered",), value)
    assert otlp.push(totals, instance="here")
    [told] = sent(collector)
    assert told["instance"] == "here"
    counted = told[DELIVERIES].sum
    assert (counted.is_monotonic, counted.aggregation_temporality) == (True, 2)
    assert counted.data_points[0].as_double == 3
    assert counted.data_points[0].attributes[0].value.string_value == "delivered"
    assert told[ledger.HELD.name].gauge.data_points[0].as_double == 0.25
    [point] = told[TIMES].histogram.data_points
    assert (point.count, point.sum, list(point.explicit_bounds)) == (3, 99.004, list(known.bounds))
    assert list(point.bucket_counts) == [0, 2, *[0] * (len(known.bounds) - 2), 1]
    assert not point.HasField("min")


def test_a_collector_that_refuses_is_no_error(collector: Receiver) -> None:
    collector.answers(Answer(status=400))
    assert not otlp.push({(DELIVERIES, ("delivered",)): [3]}, instance="here")


def test_without_a_collector_nothing_is_sent(settings: Any) -> None:
    settings.OTEL_EXPORTER_OTLP_ENDPOINT = ""
    assert not otlp.push({(DELIVERIES, ("delivered",)): [3]}, instance="here")


def test_a_process_that_counts_exports_until_it_dies_and_another_takes_over(
    collector: Receiver, tmp_path: Path
) -> None:
    first = FORK.Process(target=_count_for_ever)
    first.start()
    told = sent(collector)[-1]
    assert told[DELIVERIES].sum.data_points[0].as_double == 1
    assert not exporter._is_ours(tmp_path), "one exports already"
    first.kill()
    first.join()
    second = FORK.Process(target=_count_for_ever)
    second.start()
    collector.requests.clear()
    until = sent(collector, 3)[-1]
    assert until[DELIVERIES].sum.data_points[0].as_double == 2
    second.kill()
    second.join()
    assert spool.totals(tmp_path)[DELIVERIES, ("delivered",)] == [2]


def _count_for_ever() -> None:
    metrics.attempted("delivered", 0.1)
    time.sleep(60)

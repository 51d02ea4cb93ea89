"""Sums as OTLP's metrics, and the way to the collector."""

import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import cast

from django.conf import settings
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    DataPointT,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from apps.core.telemetry.instruments import KNOWN, Instrument, Labels, Totals


def push(totals: Totals, *, instance: str) -> bool:
    """Sends the sums once, as those of `instance`. False if the collector did not take them."""
    if not settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        return False
    data = MetricsData([_resource(totals, instance)])
    return _exporter().export(data) == MetricExportResult.SUCCESS


@cache
def _exporter() -> OTLPMetricExporter:
    """Headers, certificates and compression as OpenTelemetry's own variables say."""
    return OTLPMetricExporter(endpoint=f"{settings.OTEL_EXPORTER_OTLP_ENDPOINT}/v1/metrics", timeout=5)


def _resource(totals: Totals, instance: str) -> ResourceMetrics:
    resource = Resource.create({"service.name": "genplatform", "service.instance.id": instance})
    scope = ScopeMetrics(InstrumentationScope("genplatform"), list(_metrics(totals)), "")
    return ResourceMetrics(resource, [scope], "")


def _metrics(totals: Totals) -> Iterator[Metric]:
    now = time.time_ns()
    for name, instrument in KNOWN.items():
        series = {labels: values for (known, labels), values in totals.items() if known == name}
        points = [
            _point(instrument, labels, values, now)
            for labels, values in series.items()
            if len(values) == instrument.size and len(labels) == len(instrument.labels)
        ]
        if points:
            yield Metric(name, instrument.meaning, instrument.unit, _data(instrument, points))


def _data(instrument: Instrument, points: Sequence[DataPointT]) -> Sum | Gauge | Histogram:
    cumulative = AggregationTemporality.CUMULATIVE
    if instrument.kind == "counter":
        return Sum([p for p in points if isinstance(p, NumberDataPoint)], cumulative, is_monotonic=True)
    if instrument.kind == "gauge":
        return Gauge([p for p in points if isinstance(p, NumberDataPoint)])
    return Histogram([p for p in points if isinstance(p, HistogramDataPoint)], cumulative)


def _point(
    instrument: Instrument, labels: Labels, values: list[float], now: int
) -> NumberDataPoint | HistogramDataPoint:
    """A start of 0: the sums began before anybody who could tell."""
    attributes = dict(zip(instrument.labels, labels, strict=True))
    if instrument.kind != "histogram":
        return NumberDataPoint(attributes, 0, now, float(values[0]))
    counts = [int(count) for count in values[1:]]
    # Neither the least nor the greatest is kept: optional in the protocol, though the class asks for them.
    absent = cast(float, None)
    return HistogramDataPoint(
        attributes,
        0,
        now,
        sum(counts),
        values[0],
        counts,
        instrument.bounds,
        min=absent,
        max=absent,
    )

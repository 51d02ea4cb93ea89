"""Spans as OpenTelemetry's SDK makes them, and what libraries add; before they leave, what may hold a user's words is
taken out. Loaded only where spans are made."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.conf import settings
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Status

from apps.core.telemetry import tracing

_LIBRARIES: Final = (DjangoInstrumentor, CeleryInstrumentor, PsycopgInstrumentor, HTTPXClientInstrumentor)
# Who asks every few seconds how we do is no request of anybody.
_OPTIONS: Final[dict[type, dict[str, str]]] = {
    DjangoInstrumentor: {"excluded_urls": "healthz,readyz,metrics"}
}
# Whole addresses: what follows the question mark may be a token.
_ADDRESSES: Final = frozenset({"http.url", "url.full", "http.target"})
_LEFT_OUT: Final = frozenset(
    {"url.query", "exception.message", "exception.stacktrace", "celery.task_args", "celery.task_kwargs"}
)


class Cleaned(SpanExporter):
    """Passes spans on without queries of addresses and without the words of errors: a message of Postgres may quote
    the whole row."""

    def __init__(self, to: SpanExporter) -> None:
        self._to = to

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._to.export([_cleaned(span) for span in spans])

    def shutdown(self) -> None:
        self._to.shutdown()


def start() -> None:
    """Sends spans to the collector."""
    exporter = OTLPSpanExporter(endpoint=f"{settings.OTEL_EXPORTER_OTLP_ENDPOINT}/v1/traces")
    instrument(BatchSpanProcessor(Cleaned(exporter)))


def instrument(processor: SpanProcessor) -> TracerProvider:
    """Makes spans of our own steps and of Django, Celery, psycopg and httpx, for `processor`."""
    sampler = ParentBased(TraceIdRatioBased(settings.TRACE_SAMPLE_RATIO))
    resource = Resource.create({"service.name": "genplatform"})
    provider = TracerProvider(sampler=sampler, resource=resource)
    provider.add_span_processor(processor)
    for library in _LIBRARIES:
        library().instrument(tracer_provider=provider, **_OPTIONS.get(library, {}))
    tracing.use(provider.get_tracer("genplatform"))
    return provider


def stop(provider: TracerProvider) -> None:
    """As if it had never been started."""
    tracing.use(None)
    for library in _LIBRARIES:
        library().uninstrument()
    provider.shutdown()


def _cleaned(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_without_words(span.attributes),
        events=[Event(each.name, _without_words(each.attributes), each.timestamp) for each in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _without_words(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        name: _without_query(value) if name in _ADDRESSES else value
        for name, value in (attributes or {}).items()
        if name not in _LEFT_OUT
    }


def _without_query(address: object) -> str:
    return str(address).partition("?")[0]

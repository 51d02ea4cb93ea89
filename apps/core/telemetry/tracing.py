"""Traces across web, workers, providers and webhooks. The context of a job travels in its row (W3C Trace Context,
`traceparent`), as all else does that must not be lost: a message of the bell carries an id and nothing more.

Without a collector no span is made; then a caller's `traceparent` still marks the logs of its jobs.
"""

import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import structlog
from django.conf import settings
from opentelemetry import context, trace
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, TraceFlags

from apps.core.errors import DomainError

# Version 00 and what it says of the rest; neither id may be all zeros.
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")

# None: no traces are made.
_tracer: trace.Tracer | None = None


def start() -> None:
    """For each process that is to send its spans to the collector, if there is one."""
    if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        from apps.core.telemetry import spans  # the SDK: code that nobody needs without a collector

        spans.start()


def use(tracer: trace.Tracer | None) -> None:
    """Makes spans with `tracer` from now on; None: makes none."""
    global _tracer
    _tracer = tracer


def of_request(header: str | None) -> str | None:
    """The traceparent that a job of this request carries: of the span around it, or else the caller's own."""
    here = trace.get_current_span().get_span_context() if _tracer else None
    if here and here.is_valid:
        return _written(here)
    return header if header and _TRACEPARENT.fullmatch(header) else None


def here() -> dict[str, str]:
    """The header that passes the current span on; none where no trace is made."""
    current = trace.get_current_span().get_span_context() if _tracer else None
    return {"traceparent": _written(current)} if current and current.is_valid else {}


@contextmanager
def step(
    name: str, traceparent: str | None, *, kind: SpanKind = SpanKind.INTERNAL, **ids: Any
) -> Iterator[None]:
    """A step of work in the trace of a row. `ids` are in every line of the log meanwhile, and in the span."""
    told = {key: str(value) for key, value in ids.items()}
    parent = _read(traceparent)
    with ExitStack() as inside:
        if _tracer:
            inside.enter_context(_span(_tracer, name, kind, told, parent))
        elif parent:
            told["trace_id"] = trace.format_trace_id(parent.trace_id)
        inside.enter_context(structlog.contextvars.bound_contextvars(**told))
        yield


@contextmanager
def span(name: str, *, kind: SpanKind = SpanKind.INTERNAL, **attributes: str) -> Iterator[None]:
    """A part of the current step."""
    if _tracer is None:
        yield
        return
    with _span(_tracer, name, kind, attributes, None):
        yield


def note(**attributes: str) -> None:
    """Says more of the current span."""
    if _tracer:
        trace.get_current_span().set_attributes(attributes)


def mark(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For structlog: the current span's ids in every line."""
    current = trace.get_current_span().get_span_context() if _tracer else None
    if current and current.is_valid:
        event["trace_id"] = trace.format_trace_id(current.trace_id)
        event["span_id"] = trace.format_span_id(current.span_id)
    return event


@contextmanager
def _span(
    tracer: trace.Tracer,
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, str],
    parent: SpanContext | None,
) -> Iterator[Span]:
    """Of an error its type is told; its words may hold anything. What runs already around it, in another trace (the
    task that a message began), is linked."""
    around = trace.get_current_span().get_span_context()
    if parent and around.trace_id == parent.trace_id:
        parent = None
    links = [Link(around)] if parent and around.is_valid else []
    within = trace.set_span_in_context(trace.NonRecordingSpan(parent), context.Context()) if parent else None
    with tracer.start_as_current_span(
        name,
        within,
        kind=kind,
        attributes=dict(attributes),
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    ) as made:
        try:
            yield made
        except Exception as error:
            made.set_attribute("error.type", _type_of(error))
            made.set_status(StatusCode.ERROR)
            raise


def _type_of(error: Exception) -> str:
    return error.code if isinstance(error, DomainError) else type(error).__name__


def _read(traceparent: str | None) -> SpanContext | None:
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))


def _written(of: SpanContext) -> str:
    return f"00-{of.trace_id:032x}-{of.span_id:016x}-{of.trace_flags:02x}"

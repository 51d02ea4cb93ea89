"""OpenTelemetry's metrics API on the spool.

The SDK of the Python project keeps its sums in a process' memory: what a killed worker or a recycled child had counted
since the last export would be lost, and each of many processes would have to be scraped by itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from opentelemetry import metrics

from apps.core.telemetry import exporter, instruments
from apps.core.telemetry.instruments import Instrument
from apps.core.telemetry.spool import Spool

_spool = Spool()


class Provider(metrics.MeterProvider):
    """Gives meters that keep our instruments. What libraries declare for themselves is not kept."""

    def get_meter(self, name: str, *_: Any, **__: Any) -> metrics.Meter:
        return _Meter(name)


class _Meter(metrics.NoOpMeter):
    def create_counter(self, name: str, unit: str = "", description: str = "") -> metrics.Counter:
        known = instruments.KNOWN.get(name)
        return _Counter(known) if known else super().create_counter(name, unit, description)

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> metrics.Histogram:
        known = instruments.KNOWN.get(name)
        return _Histogram(known) if known else super().create_histogram(name, unit, description)


class _Counter(metrics.Counter):
    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument

    def add(self, amount: float, attributes: Mapping[str, Any] | None = None, context: Any = None) -> None:
        """Negative amounts are ignored, as the API demands."""
        if amount >= 0:
            _keep(self._instrument, attributes, amount)


class _Histogram(metrics.Histogram):
    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument

    def record(self, amount: float, attributes: Mapping[str, Any] | None = None, context: Any = None) -> None:
        _keep(self._instrument, attributes, amount)


def _keep(instrument: Instrument, attributes: Mapping[str, Any] | None, value: float) -> None:
    _spool.add(settings.METRICS_DIR, instrument, instruments.labelled(instrument, attributes), value)
    exporter.ensure_running()


def start() -> None:
    """From now on what is recorded is kept; once for each process."""
    metrics.set_meter_provider(Provider())

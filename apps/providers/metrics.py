"""What is measured of providers: each call by the process that makes it, the breakers from what all share."""

from apps.core.telemetry import instruments
from apps.core.telemetry.instruments import DURATIONS_S, Totals, of_rows
from apps.providers import health

CALL = instruments.histogram(
    "provider.call.seconds",
    "One call of a provider; `error` is empty if it was answered",
    labels=("provider", "action", "error"),
    bounds=DURATIONS_S,
)
BREAKER = of_rows(
    "gauge",
    "provider.breaker.state",
    "0 closed, 1 half open, 2 open; the route `polls` is that of asking for results",
    labels=("provider", "route"),
    unit="{state}",
)
_STATES = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


def breakers() -> Totals:
    """Of each route the worse of its breakers; empty while Redis is away."""
    found: Totals = {}
    for name, state in health.breakers().items():
        key = BREAKER.name, (name.provider, name.model or "polls")
        value = 2.0 if health.is_open(state) else 0.0 if state.forced else _STATES[state.state]
        found[key] = [max(value, *found.get(key, [0.0]))]
    return found

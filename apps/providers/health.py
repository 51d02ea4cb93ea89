"""How the providers do, from their breakers: for the API, the admin and the metrics."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from apps.providers import breaker_store, registry
from apps.providers.breaker import State
from apps.providers.breaker_store import Name

_FRESH_S = 1.0

_read: tuple[float, dict[Name, State]] = (0.0, {})


@dataclass(frozen=True, slots=True)
class Health:
    """`down`: nothing is ordered there now. `degraded`: a part of it. `reason` and `since`: of the worst part."""

    status: Literal["ok", "degraded", "down"]
    reason: str | None = None
    since: datetime | None = None


OK = Health("ok")


def breakers() -> dict[Name, State]:
    """Every breaker that was ever used, at most a second old; empty while Redis is away."""
    global _read
    read_at, states = _read
    if time.monotonic() - read_at >= _FRESH_S:
        states = breaker_store.states()
        _read = time.monotonic(), states
    return states


def of(routes: Iterable[tuple[str, str]]) -> Health:
    """Of a model, by the (provider, provider's model) of its routes."""
    parts = [_route(provider, model) for provider, model in routes]
    troubled = [part for part in parts if part.status != "ok"]
    if not troubled:
        return OK
    worst = next((part for part in troubled if part.status == "down"), troubled[0])
    status: Literal["degraded", "down"] = (
        "down" if all(part.status == "down" for part in parts) else "degraded"
    )
    return Health(status, worst.reason, worst.since)


def is_open(state: State) -> bool:
    return state.forced == "open" or (not state.forced and state.state == "open")


def forget() -> None:
    """The next look reads anew: after a change by hand, and in tests."""
    global _read
    _read = 0.0, {}


def _route(provider: str, model: str) -> Health:
    if not registry.is_available(provider):
        return Health("down", "provider_off")
    states = breakers()
    kinds: Sequence[breaker_store.Kind] = ("submit", "outcome")
    found = [state for kind in kinds if (state := states.get(Name(provider, model, kind)))]
    for state in found:
        if is_open(state):
            return Health("down", state.reason, _at(state))
    for state in found:
        if state.state == "half_open" and not state.forced:
            return Health("degraded", "recovering", _at(state))
    return OK


def _at(state: State) -> datetime:
    return datetime.fromtimestamp(state.since / 1000, UTC)

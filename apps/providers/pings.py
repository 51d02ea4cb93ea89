"""A free look at providers whose breakers are open, so that one that is back is used again within seconds.

Without it a breaker that opened thrice would try again, with paid orders, only after a minute. A ping that fails, on
the other hand, is as good as a failed probe, and costs nothing: while pings fail nobody else calls.
"""

from collections.abc import Iterable

import redis
import structlog
from django.conf import settings

from apps.core import clock
from apps.core.redis import client
from apps.providers import breaker_store, call
from apps.providers.breaker import State
from apps.providers.breaker_store import Name
from apps.providers.errors import ErrorKind, ProviderError
from apps.providers.health import is_open

log = structlog.get_logger(__name__)

# Beat looks every five seconds. An outage that lasts is looked at half as often: at most 25 calls in its first three
# minutes, the failures that opened the breakers counted in, and never later than ten seconds after its end.
_EVERY_S, _LATER_EVERY_S = 5.0, 10.0
_LASTS_AFTER_S = 30.0
# These answers show a provider that is up.
_UP = frozenset({ErrorKind.RATE_LIMITED, ErrorKind.AUTHENTICATION, ErrorKind.INSUFFICIENT_FUNDS})


def look() -> dict[str, bool]:
    """Pings each provider with an open breaker once, whoever else looks now. Provider → whether it is up."""
    troubled: dict[str, dict[Name, State]] = {}
    for name, state in breaker_store.states().items():
        if is_open(state) and not state.forced:
            troubled.setdefault(name.provider, {})[name] = state
    found = {}
    for provider, states in troubled.items():
        if provider in settings.PROVIDERS and _is_time(provider, states.values()):
            found[provider] = up = _is_up(provider)
            breaker_store.ping(list(states), up=up)
            log.info("provider.pinged", provider=provider, up=up)
    return found


def _is_time(provider: str, states: Iterable[State]) -> bool:
    """One process at a time: two beats must not make it twice as many."""
    open_s = clock.now().timestamp() - min(state.since for state in states) / 1000
    every_s = _EVERY_S if open_s < _LASTS_AFTER_S else _LATER_EVERY_S
    try:
        return bool(client().set(f"ping:{provider}", 1, nx=True, px=round(every_s * 800)))
    except redis.RedisError:
        return False


def _is_up(provider: str) -> bool:
    try:
        call.ping(provider)
    except ProviderError as error:
        return error.kind in _UP
    return True

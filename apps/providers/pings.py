"""A free look at providers whose breakers are open, so that one that is back is used again within seconds.

Without it a breaker that opened thrice would try again, with paid orders, only after a minute. A ping that fails, on
the other hand, is as good as a failed probe, and costs nothing: while pings fail nobody else calls.
"""

import math
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

# Soon after the failures that opened a breaker, then as seldom as its end may still be seen within 20 seconds: an
# outage of five minutes costs 18 pings beside those failures. Beat looks every second.
_FIRST_AFTER_S, _EVERY_S = 8.0, 17.0
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
    """Once in each span since the breaker opened, whichever process is first: two beats must not make it twice as many,
    and a late one must not put off all that follow."""
    opened_s = min(state.since for state in states) / 1000
    open_s = clock.now().timestamp() - opened_s
    if open_s < _FIRST_AFTER_S:
        return False
    span = math.floor((open_s - _FIRST_AFTER_S) / _EVERY_S)
    key = f"ping:{provider}:{opened_s}:{span}"
    try:
        return bool(client().set(key, 1, nx=True, ex=math.ceil(2 * _EVERY_S)))
    except redis.RedisError:
        return False


def _is_up(provider: str) -> bool:
    try:
        call.ping(provider)
    except ProviderError as error:
        return error.kind in _UP
    return True

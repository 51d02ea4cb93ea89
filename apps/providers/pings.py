"""A free look at providers whose breakers are open, so that one that is back is used again within seconds.

Without it a breaker that opened thrice would try again, with paid orders, only after a minute. A ping that fails, on
the other hand, is as good as a failed probe, and costs nothing: while pings fail nobody else calls.
"""

import redis
import structlog
from django.conf import settings

from apps.core.redis import client
from apps.providers import breaker_store, call
from apps.providers.breaker_store import Name
from apps.providers.errors import ErrorKind, ProviderError
from apps.providers.health import is_open

log = structlog.get_logger(__name__)

EVERY_S = 5.0
# These answers show a provider that is up.
_UP = frozenset({ErrorKind.RATE_LIMITED, ErrorKind.AUTHENTICATION, ErrorKind.INSUFFICIENT_FUNDS})


def look() -> dict[str, bool]:
    """Pings each provider with an open breaker once, whoever else looks now. Provider → whether it is up."""
    troubled: dict[str, list[Name]] = {}
    for name, state in breaker_store.states().items():
        if is_open(state) and not state.forced:
            troubled.setdefault(name.provider, []).append(name)
    found = {}
    for provider, names in troubled.items():
        if provider in settings.PROVIDERS and _is_ours(provider):
            found[provider] = up = _is_up(provider)
            breaker_store.ping(names, up=up)
            log.info("provider.pinged", provider=provider, up=up)
    return found


def _is_ours(provider: str) -> bool:
    """One process at a time: two beats must not make it twice as many."""
    try:
        return bool(client().set(f"ping:{provider}", 1, nx=True, px=round(EVERY_S * 800)))
    except redis.RedisError:
        return False


def _is_up(provider: str) -> bool:
    try:
        call.ping(provider)
    except ProviderError as error:
        return error.kind in _UP
    return True

"""Can a provider be asked about its orders now? A breaker for polls, of which there are many: a process that just saw
one succeed trusts that for a second, and tells only failures. So a dead provider is not polled for every job it has.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from apps.providers import breaker_store
from apps.providers.breaker import Refused
from apps.providers.breaker_store import Name, Wish
from apps.providers.errors import ErrorKind, ProviderError

_TRUST_S = 1.0
_LEASE_S = 60.0
# What is asked later is asked soon after the provider is back.
_LATER_S = 10.0

_AWAY: Final = frozenset(
    {ErrorKind.CONNECT, ErrorKind.SERVER_ERROR, ErrorKind.AMBIGUOUS, ErrorKind.MALFORMED}
)

_trusted: dict[str, tuple[int, float]] = {}


@contextmanager
def asking(provider: str) -> Iterator[None]:
    """Around one call that asks. Raises ProviderError (connect, nothing sent) while the provider is away."""
    name = Name(provider, "", "reach")
    generation, until = _trusted.get(provider, (0, 0.0))
    is_news = time.monotonic() >= until
    # A process that trusts has no place to give back.
    token = uuid.uuid4().hex if is_news else ""
    if is_news:
        generation = _enter(name, token)
    try:
        yield
    except ProviderError as error:
        if error.kind in _AWAY:
            _trusted.pop(provider, None)
            breaker_store.report(name, token=token, generation=generation, verdict="failure")
            raise
        _fine(name, token, generation, is_news=is_news)
        raise
    _fine(name, token, generation, is_news=is_news)


def forget() -> None:
    """For tests: what this process trusts."""
    _trusted.clear()


def _enter(name: Name, token: str) -> int:
    passed = breaker_store.admit([Wish(name, _LEASE_S, wary=True)], token=token)
    if isinstance(passed, Refused):
        later_s = min(_LATER_S, passed.wait_ms / 1000)
        raise ProviderError(ErrorKind.CONNECT, f"not asked: {passed.reason}", retry_after_s=later_s)
    return passed[0]


def _fine(name: Name, token: str, generation: int, *, is_news: bool) -> None:
    if is_news:
        breaker_store.report(name, token=token, generation=generation, verdict="ok")
        _trusted[name.provider] = generation, time.monotonic() + _TRUST_S

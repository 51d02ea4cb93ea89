"""Can a provider be asked about its orders now? A breaker for polls, of which there are many: a process that just saw
one succeed trusts that for a second, and tells only failures. So a dead provider is not polled for every job it has.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Asking:
    """Who may ask now. A process that trusts has no place to give back, and so no `token`."""

    name: Name
    generation: int
    token: str = ""

    def told(self, error: ProviderError | None) -> None:
        """How a call ended. Each failure is told of; that all is well only where it is news."""
        if error and error.kind in _AWAY:
            _trusted.pop(self.name.provider, None)
            breaker_store.report(self.name, token=self.token, generation=self.generation, verdict="failure")
        elif self.token:
            breaker_store.report(self.name, token=self.token, generation=self.generation, verdict="ok")
            _trusted[self.name.provider] = self.generation, time.monotonic() + _TRUST_S


def enter(provider: str) -> Asking:
    """Raises ProviderError (connect, nothing sent) while the provider is away."""
    name = Name(provider, "", "reach")
    generation, until = _trusted.get(provider, (0, 0.0))
    if time.monotonic() < until:
        return Asking(name, generation)
    token = uuid.uuid4().hex
    passed = breaker_store.admit([Wish(name, _LEASE_S, wary=True)], token=token)
    if isinstance(passed, Refused):
        later_s = min(_LATER_S, passed.wait_ms / 1000)
        raise ProviderError(ErrorKind.CONNECT, f"not asked: {passed.reason}", retry_after_s=later_s)
    return Asking(name, passed[0], token)


@contextmanager
def asking(provider: str) -> Iterator[None]:
    """Around one call that asks. Raises ProviderError (connect, nothing sent) while the provider is away."""
    entered = enter(provider)
    try:
        yield
    except ProviderError as error:
        entered.told(error)
        raise
    entered.told(None)


def forget() -> None:
    """For tests: what this process trusts."""
    _trusted.clear()

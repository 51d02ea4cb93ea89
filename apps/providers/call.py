"""Every call to a provider passes here: one place for timing, logging and the last word on errors."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
from django.conf import settings

from apps.providers import registry
from apps.providers.contract import Adapter, GenerationRequest, Pending, Result, Ticket
from apps.providers.errors import ErrorKind, ProviderError, UnknownProvider

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """What the provider said, and how long it took to say it."""

    answer: Pending | Result
    latency_ms: int


def submit(provider: str, request: GenerationRequest) -> Reply:
    """Places the order, once. Raises ProviderError, with its latency.

    The caller must have committed the attempt before, and must not hold a transaction open.
    """
    return Reply(*_timed(provider, "submit", lambda adapter: adapter.submit(request), ErrorKind.AMBIGUOUS))


def poll(provider: str, ticket: Ticket) -> Reply:
    """Asks what became of an order. Raises ProviderError; only one whose `ends_generation` holds is the
    end, after any other the caller asks again.
    """
    return Reply(*_timed(provider, "poll", lambda adapter: adapter.poll(ticket), ErrorKind.MALFORMED))


def cancel(provider: str, ticket: Ticket) -> bool:
    """True: the provider stopped it. False: it can't, or it was too late. Raises ProviderError."""
    return _timed(provider, "cancel", lambda adapter: adapter.cancel(ticket), ErrorKind.MALFORMED)[0]


def find(provider: str, request: GenerationRequest) -> Ticket | None:
    """The ticket of a submit whose answer was lost, if the provider can tell. Raises ProviderError."""
    return _timed(provider, "find", lambda adapter: adapter.find(request), ErrorKind.MALFORMED)[0]


def _timed(provider: str, action: str, call: Callable[[Adapter], T], unexpected: ErrorKind) -> tuple[T, int]:
    """`unexpected` is the kind of an error nobody foresaw: after a submit, it may have been billed."""
    adapter = _adapter(provider)
    started = time.monotonic()
    try:
        value = call(adapter)
    except ProviderError as error:
        raise _noted(error, provider, action, started) from error.__cause__
    except Exception as error:
        log.exception("provider.unexpected", provider=provider, action=action)
        surprise = ProviderError(unexpected, type(error).__name__)
        raise _noted(surprise, provider, action, started) from error
    latency_ms = _ms_since(started)
    log.debug("provider.called", provider=provider, action=action, latency_ms=latency_ms)
    return value, latency_ms


def _adapter(provider: str) -> Adapter:
    """Nothing is sent without a known provider and a key of ours, so nothing can be billed."""
    try:
        adapter = registry.adapter(provider)
    except UnknownProvider as error:
        raise ProviderError(ErrorKind.AUTHENTICATION, "the provider is not configured") from error
    if not settings.PROVIDERS[provider].get("api_key"):
        raise ProviderError(ErrorKind.AUTHENTICATION, "no key is configured")
    return adapter


def _noted(error: ProviderError, provider: str, action: str, started: float) -> ProviderError:
    error.latency_ms = _ms_since(started)
    log.info(
        "provider.error", provider=provider, action=action, kind=error.kind.value, latency_ms=error.latency_ms
    )
    return error


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)

"""Every call to a provider passes here: one place for timing, logging and the last word on errors."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from django.conf import settings

from apps.providers import registry
from apps.providers.contract import Adapter, GenerationRequest, Pending, Result, Ticket
from apps.providers.errors import ErrorKind, ProviderError, UnknownProvider

log = structlog.get_logger(__name__)

T = TypeVar("T")


def submit(provider: str, request: GenerationRequest) -> Pending | Result:
    """Places the order, once. Raises ProviderError.

    The caller must have committed the attempt before, and must not hold a transaction open.
    """
    if not registry.is_available(provider):
        # Nothing is sent, so nothing can be billed. What was bought there before is still polled.
        raise ProviderError(ErrorKind.AUTHENTICATION, "the provider has no key or was switched off")
    return _timed(provider, "submit", lambda adapter: adapter.submit(request), ErrorKind.AMBIGUOUS)


def poll(provider: str, ticket: Ticket) -> Pending | Result:
    """Asks what became of an order. Raises ProviderError; only one whose `ends_generation` holds is the
    end, after any other the caller asks again.
    """
    return _timed(provider, "poll", lambda adapter: adapter.poll(ticket), ErrorKind.MALFORMED)


def cancel(provider: str, ticket: Ticket) -> bool:
    """True: the provider stopped it. False: it can't, or it was too late. Raises ProviderError."""
    return _timed(provider, "cancel", lambda adapter: adapter.cancel(ticket), ErrorKind.MALFORMED)


def find(provider: str, request: GenerationRequest) -> Ticket | None:
    """The ticket of a submit whose answer was lost, if the provider can tell. Raises ProviderError."""
    return _timed(provider, "find", lambda adapter: adapter.find(request), ErrorKind.MALFORMED)


def _timed(provider: str, action: str, call: Callable[[Adapter], T], unexpected: ErrorKind) -> T:
    """`unexpected` is the kind of an error nobody foresaw: after a submit, it may have been billed."""
    adapter = _adapter(provider)
    started = time.monotonic()
    kind: ErrorKind | None = None
    try:
        return call(adapter)
    except ProviderError as error:
        kind = error.kind
        raise
    except Exception as error:
        kind = unexpected
        log.exception("provider.unexpected", provider=provider, action=action)
        raise ProviderError(kind, type(error).__name__) from error
    finally:
        _note(provider, action, kind, latency_ms=round((time.monotonic() - started) * 1000))


def _adapter(provider: str) -> Adapter:
    """Nothing is sent without a known provider and a key of ours, so nothing can be billed."""
    try:
        adapter = registry.adapter(provider)
    except UnknownProvider as error:
        raise ProviderError(ErrorKind.AUTHENTICATION, "the provider is not configured") from error
    if not settings.PROVIDERS[provider].get("api_key"):
        raise ProviderError(ErrorKind.AUTHENTICATION, "no key is configured")
    return adapter


def _note(provider: str, action: str, kind: ErrorKind | None, *, latency_ms: int) -> None:
    """Neither prompts nor keys: what the provider said stays out of the log."""
    write = log.info if kind else log.debug
    write("provider.called", provider=provider, action=action, error=kind, latency_ms=latency_ms)

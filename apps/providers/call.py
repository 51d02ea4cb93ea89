"""Every call to a provider passes here: one place for timing, logging and the last word on errors."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NoReturn, TypeAlias, TypeVar

import structlog
from django.conf import settings
from opentelemetry.trace import SpanKind

from apps.core.telemetry import tracing
from apps.providers import http, metrics, permits, reach, registry
from apps.providers.contract import (
    Adapter,
    Asks,
    Batches,
    BatchPending,
    BatchResults,
    Capabilities,
    Fitted,
    GenerationRequest,
    Lists,
    Pending,
    Result,
    Ticket,
)
from apps.providers.errors import ErrorKind, ProviderError, UnknownProvider
from apps.providers.permits import Permit

log = structlog.get_logger(__name__)

T = TypeVar("T")
Ask: TypeAlias = Callable[[Ticket], Callable[[], Pending | Result]]

_PING_S = 3.0
# As many questions are under way at once as save most of the CPU time: more save little.
_AT_ONCE = 8


def submit(
    provider: str, request: GenerationRequest, *, permit: Permit | None = None, within_s: float | None = None
) -> Pending | Result:
    """Places the order, once. Raises ProviderError.

    The caller must have committed the attempt before, and must not hold a transaction open. `permit`: what let it
    in, and that the provider may be called; breakers and limits are told how it went. `within_s`: the time that the
    job has left.
    """
    if not permit and not registry.is_available(provider):
        # Nothing is sent, so nothing can be billed. What was bought there before is still polled.
        raise ProviderError(ErrorKind.AUTHENTICATION, "the provider has no key or was switched off")
    error, started = None, time.monotonic()
    try:
        with http.within(within_s):
            return _timed(provider, "submit", lambda adapter: adapter.submit(request), ErrorKind.AMBIGUOUS)
    except ProviderError as caught:
        error = caught
        raise
    finally:
        if permit:
            slow = (
                time.monotonic() - started > settings.PROVIDER_SLOW_S
                and not capabilities(provider).synchronous
            )
            permits.submitted(permit, error, slow=slow)


def poll(provider: str, ticket: Ticket) -> Pending | Result:
    """Asks what became of an order. Raises ProviderError; only one whose `ends_generation` holds is the
    end, after any other the caller asks again.
    """
    with reach.asking(provider):
        return _timed(provider, "poll", lambda adapter: adapter.poll(ticket), ErrorKind.MALFORMED)


def poll_each(provider: str, tickets: Sequence[Ticket]) -> Iterator[Pending | Result | ProviderError]:
    """What `poll` says of each, in order; its error is told, not raised.

    Where the adapter can, several are asked at once: twice as many as before while all is well, and one alone after an
    error, so that a provider that went away is not asked by many who can't know yet.
    """
    ask = _ask(provider)
    most, size, begun = _AT_ONCE if ask else 1, 1, 0
    while window := tickets[begun : begun + size]:
        if ask and size > 1:
            answers = _together(provider, ask, window)
        else:
            answers = [_caught(partial(poll, provider, window[0]))]
        yield from answers
        begun += size
        size = 1 if _failed(answers) else min(2 * size, most)


def poll_many(provider: str, tickets: Sequence[Ticket]) -> Mapping[str, Pending]:
    """Which of the orders, by task id, are still under way, as far as one call shows; any other is to be polled by
    itself. Raises ProviderError, which says nothing of any.
    """
    with reach.asking(provider):
        return _timed(
            provider, "poll_many", lambda adapter: _lists(adapter).poll_many(tickets), ErrorKind.MALFORMED
        )


def lists(provider: str) -> bool:
    """Whether `poll_many` is of use there."""
    try:
        return capabilities(provider).lists
    except ProviderError:
        return False


def cancel(provider: str, ticket: Ticket) -> bool:
    """True: the provider stopped it. False: it can't, or it was too late. Raises ProviderError."""
    return _timed(provider, "cancel", lambda adapter: adapter.cancel(ticket), ErrorKind.MALFORMED)


def find(provider: str, request: GenerationRequest) -> Ticket | None:
    """The ticket of a submit whose answer was lost, if the provider can tell. Raises ProviderError."""
    with reach.asking(provider):
        return _timed(provider, "find", lambda adapter: adapter.find(request), ErrorKind.MALFORMED)


def submit_batch(
    provider: str, requests: Sequence[GenerationRequest], key: str, *, permit: Permit, begun_within_s: float
) -> Ticket:
    """Places all the orders in one call, once, under our name `key`. Raises ProviderError.

    As `submit`; every attempt must have been committed before. `begun_within_s`: after that nothing is sent any more.
    """
    error = None
    try:
        with http.begun_within(begun_within_s):
            return _timed(
                provider,
                "submit_batch",
                lambda adapter: _batches(adapter).submit_batch(requests, key),
                ErrorKind.AMBIGUOUS,
            )
    except ProviderError as caught:
        error = caught
        raise
    finally:
        permits.submitted(permit, error, slow=False)


def find_batch(provider: str, key: str) -> Ticket | None:
    """The ticket of a batch whose answer was lost; None if the provider has none of that name. Raises ProviderError."""
    with reach.asking(provider):
        return _timed(
            provider, "find_batch", lambda adapter: _batches(adapter).find_batch(key), ErrorKind.MALFORMED
        )


def poll_batch(provider: str, ticket: Ticket) -> BatchPending | BatchResults:
    """Asks what became of a batch. Raises ProviderError, none of which is its end. The results are to be closed."""
    with reach.asking(provider):
        return _timed(
            provider, "poll_batch", lambda adapter: _batches(adapter).poll_batch(ticket), ErrorKind.MALFORMED
        )


def cancel_batch(provider: str, ticket: Ticket) -> bool:
    """True: the provider stops it, and tells of each order when it has. False: too late. Raises ProviderError."""
    return _timed(
        provider, "cancel_batch", lambda adapter: _batches(adapter).cancel_batch(ticket), ErrorKind.MALFORMED
    )


def ping(provider: str) -> None:
    """A free call that shows that the provider is up. Raises ProviderError if it is not."""
    with http.within(_PING_S):
        _timed(provider, "ping", lambda adapter: adapter.ping(), ErrorKind.MALFORMED)


def fit(provider: str, request: GenerationRequest) -> Fitted:
    """What of `request` the provider can be told. Sends nothing. Raises ProviderError (unsupported, authentication)."""
    return _adapter(provider).fit(request)


def capabilities(provider: str) -> Capabilities:
    """What its protocol can do. Raises ProviderError (authentication) for a provider that is not configured."""
    return _adapter(provider).capabilities


def _batches(adapter: Adapter) -> Batches:
    if not isinstance(adapter, Batches):
        raise ProviderError(ErrorKind.UNSUPPORTED, "the provider has no batches")
    return adapter


def _lists(adapter: Adapter) -> Lists:
    if not isinstance(adapter, Lists):
        raise ProviderError(ErrorKind.UNSUPPORTED, "the provider has no list of orders")
    return adapter


def _together(provider: str, ask: Ask, tickets: Sequence[Ticket]) -> list[Pending | Result | ProviderError]:
    """All are asked before the first answer is read, and whether the provider can be asked is decided once."""
    try:
        entered = reach.enter(provider)
    except ProviderError as error:
        return [error] * len(tickets)
    started = time.monotonic()
    with tracing.span("provider.poll", kind=SpanKind.CLIENT, provider=provider):
        reads = [_sent(ask, ticket) for ticket in tickets]
        # When the last is answered the others mostly are: who waits once is not woken for each.
        answers = [
            _caught(partial(_told, provider, "poll", read, ErrorKind.MALFORMED, started))
            for read in reversed(reads)
        ][::-1]
    for failure in _failed(answers) or (None,):
        entered.told(failure)
    return answers


def _sent(ask: Ask, ticket: Ticket) -> Callable[[], Pending | Result]:
    """What reads the answer, or tells why the question was not sent."""
    try:
        return ask(ticket)
    except Exception as error:  # noqa: BLE001 - raised where the answer is read
        return partial(_raise, error)


def _raise(error: Exception) -> NoReturn:
    raise error


def _caught(call: Callable[[], T]) -> T | ProviderError:
    try:
        return call()
    except ProviderError as error:
        return error


def _failed(answers: Sequence[object]) -> list[ProviderError]:
    return [answer for answer in answers if isinstance(answer, ProviderError)]


def _ask(provider: str) -> Ask | None:
    """How its orders are asked for at once, if they can be."""
    try:
        adapter = _adapter(provider)
    except ProviderError:
        return None
    return adapter.ask if isinstance(adapter, Asks) else None


def _timed(provider: str, action: str, call: Callable[[Adapter], T], unexpected: ErrorKind) -> T:
    """`unexpected` is the kind of an error nobody foresaw: after a submit, it may have been billed."""
    adapter = _adapter(provider)
    with tracing.span(f"provider.{action}", kind=SpanKind.CLIENT, provider=provider):
        return _told(provider, action, lambda: call(adapter), unexpected)


def _told(
    provider: str, action: str, call: Callable[[], T], unexpected: ErrorKind, started: float | None = None
) -> T:
    """`started`: when the question was sent, if that was before."""
    started = started or time.monotonic()
    kind: ErrorKind | None = None
    try:
        return call()
    except ProviderError as error:
        kind = error.kind
        raise
    except Exception as error:
        kind = unexpected
        log.exception("provider.unexpected", provider=provider, action=action)
        raise ProviderError(kind, type(error).__name__) from error
    finally:
        _note(provider, action, kind, took_s=time.monotonic() - started)


def _adapter(provider: str) -> Adapter:
    """Nothing is sent without a known provider and a key of ours, so nothing can be billed."""
    try:
        adapter = registry.adapter(provider)
    except UnknownProvider as error:
        raise ProviderError(ErrorKind.AUTHENTICATION, "the provider is not configured") from error
    if not settings.PROVIDERS[provider].get("api_key"):
        raise ProviderError(ErrorKind.AUTHENTICATION, "no key is configured")
    return adapter


def _note(provider: str, action: str, kind: ErrorKind | None, *, took_s: float) -> None:
    """Neither prompts nor keys: what the provider said stays out of the log."""
    tracing.note(outcome=kind or "ok")
    metrics.CALL.record(took_s, {"provider": provider, "action": action, "error": kind or ""})
    level = logging.INFO if kind else logging.DEBUG
    # Hundreds of answers a second are not logged, and that is to cost nothing.
    if log.isEnabledFor(level):
        took_ms = round(took_s * 1000)
        log.log(level, "provider.called", provider=provider, action=action, error=kind, latency_ms=took_ms)

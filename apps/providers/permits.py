"""May this order go to this provider now? Breakers and limits asked before it, and told how it went."""

import random
from dataclasses import dataclass
from typing import Final

from apps.providers import breaker_store, limiter
from apps.providers.breaker import Refused, Verdict
from apps.providers.breaker_store import UNKNOWN_GENERATION, Name, Wish
from apps.providers.errors import ErrorKind, ProviderError
from apps.providers.limiter import Caps

# An order is answered, or its call is cut off, within this; one that answers with the result may take longer, and lets
# one more probe through then.
_SUBMIT_LEASE_S = 60.0
# After a 429 that does not say for how long.
_PAUSE_S = 1.0

# What a provider did wrong with the work, not with the order for it.
_OUTCOMES: Final = frozenset({ErrorKind.GENERATION_FAILED, ErrorKind.BAD_OUTPUT})
# These say nothing about whether it works: our account there, our speed, our wish.
_SILENT: Final = frozenset(
    {
        ErrorKind.RATE_LIMITED,
        ErrorKind.AUTHENTICATION,
        ErrorKind.INSUFFICIENT_FUNDS,
        ErrorKind.UNSUPPORTED,
        ErrorKind.CANCELED,
    }
)


@dataclass(frozen=True, slots=True)
class Permit:
    """One order let in. `model` is the provider's name of it, `token` our attempt."""

    provider: str
    model: str
    token: str
    submit_generation: int = UNKNOWN_GENERATION
    outcome_generation: int = UNKNOWN_GENERATION


def ask(
    provider: str,
    model: str,
    *,
    token: str,
    caps: Caps,
    within_s: float,
    retry: bool = False,
    can_wait: bool = False,
) -> Permit | Refused:
    """`within_s`: the time the job has left; a lease that nobody gives back ends then.

    `retry`: the job was tried at this provider before. `can_wait`: it is of priority batch.
    A `Refused` order waits or goes elsewhere; nothing was sent.
    """
    submit, outcome = Name(provider, model, "submit"), Name(provider, model, "outcome")
    wishes = [Wish(submit, _SUBMIT_LEASE_S, ramp=True, wary=True), Wish(outcome, within_s)]
    passed = breaker_store.admit(wishes, token=token)
    if isinstance(passed, Refused):
        return passed
    permit = Permit(provider, model, token, *passed)
    if refused := limiter.take(provider, caps, token=token, lease_s=within_s, retry=retry, can_wait=can_wait):
        _report(permit, "submit", "neutral")
        _report(permit, "outcome", "neutral")
        return refused
    return permit


def submitted(permit: Permit, error: ProviderError | None, *, slow: bool) -> None:
    """How the order was answered. What an order waits for `Retry-After` by, all wait for."""
    verdict: Verdict = "ok"
    if error and error.kind in _SILENT:
        verdict = "neutral"
    elif error and error.policy.trips and error.kind not in _OUTCOMES:
        verdict = "failure"
    _report(permit, "submit", verdict, slow=slow)
    if error and error.kind == ErrorKind.RATE_LIMITED:
        pause_s = error.retry_after_s
        if pause_s is None:
            pause_s = random.uniform(_PAUSE_S / 2, 2 * _PAUSE_S)  # noqa: S311 - jitter, not a secret
        limiter.throttled(permit.provider, pause_s=pause_s)


def ended(permit: Permit, error: ErrorKind | None, *, told: bool = True) -> None:
    """The work is over, well (`error` is None) or not. `told` False: we stopped waiting, and know nothing of it."""
    verdict: Verdict = "neutral"
    if told:
        verdict = "ok" if error is None else "failure" if error in _OUTCOMES else "neutral"
    _report(permit, "outcome", verdict)
    limiter.done(permit.provider, token=permit.token, ok=verdict == "ok")


def _report(permit: Permit, kind: breaker_store.Kind, verdict: Verdict, *, slow: bool = False) -> None:
    generation = permit.submit_generation if kind == "submit" else permit.outcome_generation
    name = Name(permit.provider, permit.model, kind)
    breaker_store.report(name, token=permit.token, generation=generation, verdict=verdict, slow=slow)

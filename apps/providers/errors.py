"""What can go wrong at a provider, and the one table that says what follows from it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal


class ErrorKind(StrEnum):
    CONNECT = "connect"  # proven unsent: no connection was made
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"  # the provider answered that it failed
    AMBIGUOUS = "ambiguous"  # timeout or reset after the request may have been read, or a gateway's 502/504
    INVALID_REQUEST = "invalid_request"  # this provider does not take it, or does not have the model
    UNSUPPORTED = "unsupported"  # the provider can't make this: nothing was sent
    AUTHENTICATION = "authentication"  # our key is not accepted
    INSUFFICIENT_FUNDS = "insufficient_funds"  # our account there is empty
    CONTENT_REJECTED = "content_rejected"  # refused by moderation
    GENERATION_FAILED = "generation_failed"
    BAD_OUTPUT = "bad_output"  # called finished, but nothing usable was delivered
    UNSAFE_OUTPUT = "unsafe_output"  # delivered, and refused by our own checks of safety or law
    NOT_FOUND = "not_found"  # the ticket is unknown there
    MALFORMED = "malformed"  # an answer that makes no sense
    CANCELED = "canceled"


@dataclass(frozen=True)
class Policy:
    """What an error of a submit, or a failed generation, means.

    retry: the same provider may be tried again. fall_back: the next route may be tried.
    trips: counts against the provider's breaker. retryable_for_client: the same job may work later.
    billed: "unknown" keeps the money held until it is reconciled, and nothing is sent again.
    """

    retry: bool
    fall_back: bool
    trips: bool
    billed: Literal["no", "yes", "unknown"]
    retryable_for_client: bool


# fmt: off
POLICIES: Final[dict[ErrorKind, Policy]] = {
    #                                    retry  fall_back  trips  billed     retryable_for_client
    ErrorKind.CONNECT:            Policy(True,  True,      True,  "no",      True),
    ErrorKind.RATE_LIMITED:       Policy(True,  True,      False, "no",      True),
    ErrorKind.SERVER_ERROR:       Policy(True,  True,      True,  "no",      True),
    ErrorKind.AMBIGUOUS:          Policy(False, False,     True,  "unknown", True),
    ErrorKind.INVALID_REQUEST:    Policy(False, True,      False, "no",      False),
    ErrorKind.UNSUPPORTED:        Policy(False, True,      False, "no",      False),
    ErrorKind.AUTHENTICATION:     Policy(False, True,      False, "no",      True),
    ErrorKind.INSUFFICIENT_FUNDS: Policy(False, True,      False, "no",      True),
    ErrorKind.CONTENT_REJECTED:   Policy(False, False,     False, "no",      False),
    ErrorKind.GENERATION_FAILED:  Policy(True,  True,      True,  "no",      True),
    ErrorKind.BAD_OUTPUT:         Policy(True,  True,      True,  "yes",     True),
    ErrorKind.UNSAFE_OUTPUT:      Policy(True,  True,      False, "yes",     False),
    ErrorKind.NOT_FOUND:          Policy(False, False,     False, "unknown", True),
    ErrorKind.MALFORMED:          Policy(False, False,     True,  "unknown", True),
    ErrorKind.CANCELED:           Policy(False, False,     False, "unknown", True),
}
# fmt: on

# A poll that ends in one of these tells how the generation ended. In any other it says nothing about the
# generation, and the caller asks again: a network error or a 5xx while polling is never the end of a job.
ENDS_GENERATION: Final = frozenset(
    {
        ErrorKind.CONTENT_REJECTED,
        ErrorKind.GENERATION_FAILED,
        ErrorKind.BAD_OUTPUT,
        ErrorKind.CANCELED,
    }
)


class ProviderError(Exception):
    """`message` is for the attempt's row: it may quote the provider, who may quote the prompt.

    So a log or a traceback shows the kind alone.
    """

    def __init__(self, kind: ErrorKind, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.kind.value

    @property
    def policy(self) -> Policy:
        return POLICIES[self.kind]

    @property
    def ends_generation(self) -> bool:
        return self.kind in ENDS_GENERATION


class UnknownProvider(LookupError):
    """No such provider in settings.PROVIDERS, or one whose adapter we do not have."""


class WebhookRejected(Exception):
    """A webhook that is forged, too old, or not a webhook at all."""

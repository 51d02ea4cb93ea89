"""The table of error kinds is complete and does not contradict itself."""

import pickle

import pytest

from apps.providers.errors import POLICIES, ErrorKind, ProviderError


def test_every_kind_has_a_policy() -> None:
    assert set(POLICIES) == set(ErrorKind)


@pytest.mark.parametrize("kind", [kind for kind in ErrorKind if POLICIES[kind].billed == "unknown"])
def test_what_may_have_been_billed_is_never_bought_again(kind: ErrorKind) -> None:
    assert not POLICIES[kind].retry
    assert not POLICIES[kind].fall_back


def test_a_refusal_by_moderation_is_not_shopped_around() -> None:
    assert not POLICIES[ErrorKind.CONTENT_REJECTED].fall_back


@pytest.mark.parametrize(
    "kind",
    [ErrorKind.RATE_LIMITED, ErrorKind.INVALID_REQUEST, ErrorKind.CONTENT_REJECTED, ErrorKind.CANCELED],
)
def test_what_is_not_the_providers_fault_does_not_trip_its_breaker(kind: ErrorKind) -> None:
    assert not POLICIES[kind].trips


def test_an_error_shows_its_kind_and_not_what_the_provider_said() -> None:
    error = ProviderError(ErrorKind.INVALID_REQUEST, "bad prompt: a secret wish")
    assert str(error) == "invalid_request"
    assert error.message == "bad prompt: a secret wish"


def test_an_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ProviderError(ErrorKind.RATE_LIMITED, "slow down", retry_after_s=3)))
    assert (error.kind, error.message, error.retry_after_s) == (ErrorKind.RATE_LIMITED, "slow down", 3)

"""fal's published keys: fetched when needed, kept for a day, and never more often than once a minute."""

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from apps.core import clock
from apps.providers import signatures
from apps.providers.errors import WebhookRejected
from tests.fakes.receiver import Answer, Receiver

BODY = b'{"request_id":"r1"}'


@pytest.fixture
def publisher() -> Iterator[Receiver]:
    """Where the keys are published. Each test has another address, so each begins without keys."""
    with Receiver() as listening:
        yield listening


def published(*keys: Ed25519PrivateKey) -> Answer:
    entries = [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": base64.urlsafe_b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
            .rstrip(b"=")
            .decode(),
        }
        for key in keys
    ]
    return Answer(body=json.dumps({"keys": entries}).encode())


def signed(key: Ed25519PrivateKey) -> dict[str, str]:
    at = str(int(clock.now().timestamp()))
    message = f"r1\nuser\n{at}\n{hashlib.sha256(BODY).hexdigest()}"
    return {
        "x-fal-webhook-request-id": "r1",
        "x-fal-webhook-user-id": "user",
        "x-fal-webhook-timestamp": at,
        "x-fal-webhook-signature": key.sign(message.encode()).hex(),
    }


def is_taken(publisher: Receiver, key: Ed25519PrivateKey) -> bool:
    try:
        return signatures.fal(publisher.url, BODY, signed(key)) == "r1"
    except WebhookRejected:
        return False


def test_the_keys_are_fetched_once_and_kept_for_a_day(publisher: Receiver) -> None:
    key, now = Ed25519PrivateKey.generate(), clock.now()
    publisher.answers(published(key), published(key))
    for hours in (0, 1, 23):
        with clock.frozen(now + timedelta(hours=hours)):
            assert is_taken(publisher, key)
    assert len(publisher.requests) == 1
    with clock.frozen(now + timedelta(hours=25)):
        assert is_taken(publisher, key)
    assert len(publisher.requests) == 2


def test_a_key_that_was_withdrawn_is_not_taken_a_day_later(publisher: Receiver) -> None:
    old, new, now = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate(), clock.now()
    publisher.answers(published(old), published(new))
    assert is_taken(publisher, old)
    with clock.frozen(now + timedelta(hours=25)):
        assert not is_taken(publisher, old)
        assert is_taken(publisher, new)


def test_a_new_key_is_fetched_when_its_first_signature_comes(publisher: Receiver) -> None:
    old, new, now = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate(), clock.now()
    publisher.answers(published(old), published(old, new))
    assert is_taken(publisher, old)
    with clock.frozen(now + timedelta(minutes=2)):
        assert is_taken(publisher, new)
        assert is_taken(publisher, old)


def test_forgeries_cause_one_fetch_a_minute(publisher: Receiver) -> None:
    key, now = Ed25519PrivateKey.generate(), clock.now()
    publisher.answers(*[published(key)] * 3)
    with clock.frozen(now):
        assert is_taken(publisher, key)
        assert not any(is_taken(publisher, Ed25519PrivateKey.generate()) for _ in range(5))
    assert len(publisher.requests) == 1
    with clock.frozen(now + timedelta(seconds=61)):
        assert not any(is_taken(publisher, Ed25519PrivateKey.generate()) for _ in range(5))
        assert is_taken(publisher, key)
    assert len(publisher.requests) == 2


def test_an_old_webhook_is_rejected_before_any_key_is_fetched(publisher: Receiver) -> None:
    headers = signed(Ed25519PrivateKey.generate())
    with (
        clock.frozen(clock.now() + timedelta(seconds=301)),
        pytest.raises(WebhookRejected, match="too far"),
    ):
        signatures.fal(publisher.url, BODY, headers)
    assert publisher.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=500),
        Answer(body=b"<html>"),
        Answer(body=b"[]"),
        Answer(body=b'{"keys": 3}'),
        Answer(body=b'{"keys": [3, {"crv": "P-256", "x": "AAAA"}, {"crv": "Ed25519", "x": "AAAA"}]}'),
    ],
)
def test_without_keys_nothing_is_taken_and_the_last_ones_stay_good(
    publisher: Receiver, answer: Answer
) -> None:
    key, now = Ed25519PrivateKey.generate(), clock.now()
    publisher.answers(answer, published(key), answer)
    with clock.frozen(now):
        assert not is_taken(publisher, key)
    with clock.frozen(now + timedelta(minutes=2)):
        assert is_taken(publisher, key)
    with clock.frozen(now + timedelta(minutes=4)):
        assert not is_taken(publisher, Ed25519PrivateKey.generate())
        assert is_taken(publisher, key)


def test_a_signature_that_is_no_signature_is_rejected(publisher: Receiver) -> None:
    key = Ed25519PrivateKey.generate()
    publisher.answers(published(key))
    bad: list[Any] = ["", "zz", "00", signed(key)["x-fal-webhook-signature"][:-2]]
    for signature in bad:
        with pytest.raises(WebhookRejected):
            signatures.fal(publisher.url, BODY, {**signed(key), "x-fal-webhook-signature": signature})

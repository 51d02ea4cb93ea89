from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from apps.accounts import caller, keys
from apps.accounts.authentication import ApiKeyAuthentication
from apps.accounts.models import User
from apps.core import clock
from apps.core.errors import NotAuthenticated

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def authenticate(header: str | None, query: str = "") -> Any:
    request = APIRequestFactory().get(f"/v1/jobs{query}")
    if header is not None:
        request.META["HTTP_AUTHORIZATION"] = header
    return ApiKeyAuthentication().authenticate(Request(request))


def test_a_key_speaks_for_its_user_with_one_query_and_then_none(
    user: User, django_assert_num_queries: Any
) -> None:
    key, text = keys.issue(user, name="ci", scopes=["jobs:read"])
    with django_assert_num_queries(1):
        found, auth = authenticate(f"Bearer {text}")
    assert auth == key.id
    assert (found.user_id, found.team_id, found.key_id) == (user.id, user.team_id, key.id)
    assert found.scopes == {"jobs:read"}
    assert found.timezone == "Europe/Berlin"
    assert (found.tier.slug, found.tier.max_quality, found.tier.concurrency) == ("test", 7, 2)
    assert found.is_authenticated is True
    with django_assert_num_queries(0):
        authenticate(f"bearer {text}")


def test_without_a_header_nobody_is_asked(db: None) -> None:
    assert authenticate(None) is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic {key}",
        "{key}",
        "Bearer {key}, Bearer {key}",
        "Bearer {key} x",
        "Bearer x",
    ],
)
def test_a_malformed_header_is_refused_without_a_query(
    user: User, header: str, django_assert_num_queries: Any
) -> None:
    text = keys.issue(user, name="ci", scopes=[])[1]
    with django_assert_num_queries(0), pytest.raises(NotAuthenticated):
        authenticate(header.format(key=text))


def test_a_key_in_the_url_is_refused_even_beside_a_good_header(user: User) -> None:
    text = keys.issue(user, name="ci", scopes=[])[1]
    for header in (None, f"Bearer {text}"):
        with pytest.raises(NotAuthenticated, match="URL"):
            authenticate(header, query=f"?api_key={text}")


def test_a_well_formed_key_that_was_never_issued_is_refused(user: User) -> None:
    key, text = keys.issue(user, name="ci", scopes=[])
    key.delete()
    with pytest.raises(NotAuthenticated):
        authenticate(f"Bearer {text}")


def test_a_revocation_holds_within_a_second(user: User) -> None:
    key, text = keys.issue(user, name="ci", scopes=[])
    with clock.frozen(NOON):
        authenticate(f"Bearer {text}")
        keys.revoke(key)
    with clock.frozen(NOON + timedelta(seconds=caller.REMEMBERED_S)), pytest.raises(NotAuthenticated):
        authenticate(f"Bearer {text}")


def test_a_clock_set_back_does_not_keep_a_revoked_key_alive(user: User) -> None:
    key, text = keys.issue(user, name="ci", scopes=[])
    with clock.frozen(NOON):
        authenticate(f"Bearer {text}")
    keys.revoke(key)
    with clock.frozen(NOON - timedelta(hours=1)), pytest.raises(NotAuthenticated):
        authenticate(f"Bearer {text}")


def test_a_key_ends_at_its_expiry_even_while_it_is_remembered(user: User) -> None:
    expires_at = NOON + timedelta(milliseconds=500)
    text = keys.issue(user, name="ci", scopes=[], expires_at=expires_at)[1]
    with clock.frozen(NOON):
        authenticate(f"Bearer {text}")
    with clock.frozen(expires_at), pytest.raises(NotAuthenticated):
        authenticate(f"Bearer {text}")


def test_an_inactive_user_is_refused(user: User) -> None:
    text = keys.issue(user, name="ci", scopes=[])[1]
    user.is_active = False
    user.save()
    with pytest.raises(NotAuthenticated):
        authenticate(f"Bearer {text}")


def test_the_memory_is_bounded(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "_MAX_REMEMBERED", 2)
    for _ in range(5):
        authenticate(f"Bearer {keys.issue(user, name='ci', scopes=[])[1]}")
    assert len(caller._remembered) <= 2

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.accounts import keys
from apps.accounts.models import ApiKey, User
from apps.core import clock

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def test_a_key_has_the_documented_shape_and_is_stored_only_as_a_digest(user: User) -> None:
    key, text = keys.issue(user, name="ci", scopes=["jobs:read"])
    assert re.fullmatch(r"gp_live_[0-9A-Za-z]{38}", text)
    row = str(ApiKey.objects.filter(pk=key.pk).values_list().get())
    assert text[12:] not in row
    assert key.prefix == text[:12]
    assert bytes(key.digest) == keys.parse(text)


def test_a_test_key_says_so(user: User) -> None:
    assert keys.issue(user, name="ci", scopes=[], live=False)[1].startswith("gp_test_")


def test_two_keys_differ(user: User) -> None:
    assert keys.issue(user, name="a", scopes=[])[1] != keys.issue(user, name="a", scopes=[])[1]


def test_the_digest_depends_on_the_pepper(user: User, settings: Any) -> None:
    text = keys.issue(user, name="ci", scopes=[])[1]
    before = keys.parse(text)
    settings.API_KEY_PEPPER = "another pepper that is long enough to be one"
    assert keys.parse(text) != before


def test_every_mistyped_character_is_noticed_without_a_query(
    user: User, django_assert_num_queries: Any
) -> None:
    text = keys.issue(user, name="ci", scopes=[])[1]
    with django_assert_num_queries(0):
        for i in range(len(text)):
            other = "x" if text[i] != "x" else "y"
            assert keys.parse(text[:i] + other + text[i + 1 :]) is None


@given(st.text())
def test_text_that_is_no_key_is_never_taken_for_one(text: str) -> None:
    assert keys.parse(text) is None
    assert keys.parse("gp_live_" + text) is None


def test_unicode_digits_and_a_trailing_newline_are_no_key(user: User) -> None:
    text = keys.issue(user, name="ci", scopes=[])[1]
    assert keys.parse(text + "\n") is None
    assert keys.parse(text[:10] + "٣" + text[11:]) is None


def test_an_unknown_scope_is_refused(user: User) -> None:
    with pytest.raises(ValueError, match="jobs:everything"):
        keys.issue(user, name="ci", scopes=["jobs:everything"])


def test_staff_without_a_team_get_no_key(db: None) -> None:
    with pytest.raises(ValueError, match="no team"):
        keys.issue(User.objects.create(username="ops"), name="ci", scopes=[])


def test_rotation_keeps_the_old_key_for_the_overlap_and_gives_a_successor(user: User) -> None:
    with clock.frozen(NOON):
        old, _ = keys.issue(user, name="ci", scopes=["jobs:read"], live=False)
        new, text = keys.rotate(old, overlap_s=3600)
    old.refresh_from_db()
    assert old.expires_at == NOON + timedelta(hours=1)
    assert (new.name, new.scopes, new.expires_at) == ("ci", ["jobs:read"], None)
    assert text.startswith("gp_test_")


def test_rotation_never_prolongs_the_old_key_and_keeps_its_lifetime(user: User) -> None:
    with clock.frozen(NOON):
        old, _ = keys.issue(user, name="ci", scopes=[], expires_at=NOON + timedelta(minutes=5))
    with clock.frozen(NOON + timedelta(minutes=1)):
        new, _ = keys.rotate(old, overlap_s=3600)
    old.refresh_from_db()
    assert old.expires_at == NOON + timedelta(minutes=5)
    assert new.expires_at == NOON + timedelta(minutes=6)


def test_a_revoked_key_is_not_brought_back_by_rotation(user: User) -> None:
    key, _ = keys.issue(user, name="ci", scopes=[])
    assert keys.revoke(key) is True
    assert keys.revoke(key) is False
    with pytest.raises(keys.KeyEnded):
        keys.rotate(key, overlap_s=60)
    assert user.api_keys.count() == 1

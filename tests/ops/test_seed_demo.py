import stat
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from apps.accounts import caller, keys
from apps.accounts.models import ApiKey, Team, Tier, User

pytestmark = pytest.mark.django_db


def seed(path: Path) -> dict[str, str]:
    call_command("seed_demo", env_file=path, verbosity=0)
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Path:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one is slow
    monkeypatch.delenv("ADMIN_PASSWORD", raising=False)
    caller.forget()
    return tmp_path / "run" / "demo.env"


def speaks_for(text: str) -> caller.Caller:
    digest = keys.parse(text)
    assert digest
    found = caller.find(digest)
    assert found
    return found


def test_the_keys_in_the_file_speak_for_their_users(env_file: Path) -> None:
    lines = seed(env_file)
    pro, other = speaks_for(lines["GENPLATFORM_KEY"]), speaks_for(lines["GENPLATFORM_OTHER_KEY"])
    assert (pro.tier.slug, other.tier.slug) == ("pro", "pro")
    assert pro.team_id != other.team_id
    free = speaks_for(lines["GENPLATFORM_FREE_KEY"]).tier
    assert (free.max_quality, free.prefers_cheapest, pro.tier.prefers_cheapest) == (5, True, False)
    assert speaks_for(lines["GENPLATFORM_BROKE_KEY"]).tier.monthly_budget_usd == 0


def test_the_file_is_for_its_owner_only(env_file: Path) -> None:
    seed(env_file)
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600


def test_the_administrator_can_log_in_with_the_password_of_the_file(env_file: Path) -> None:
    lines = seed(env_file)
    admin = User.objects.get(username=lines["ADMIN_USER"])
    assert admin.is_superuser
    assert admin.check_password(lines["ADMIN_PASSWORD"])


def test_a_second_run_changes_nothing(env_file: Path) -> None:
    first = seed(env_file)
    counts = [model.objects.count() for model in (ApiKey, Team, Tier, User)]
    assert seed(env_file) == first
    assert [model.objects.count() for model in (ApiKey, Team, Tier, User)] == counts


def test_a_key_that_no_longer_works_is_replaced_and_the_others_stay(env_file: Path) -> None:
    first = seed(env_file)
    keys.revoke(ApiKey.objects.get(user__username="free"))
    caller.forget()
    second = seed(env_file)
    assert second.pop("GENPLATFORM_FREE_KEY") != first.pop("GENPLATFORM_FREE_KEY")
    assert second == first


def test_other_lines_of_the_file_stay(env_file: Path) -> None:
    env_file.parent.mkdir()
    env_file.write_text("# written by hand\nexport GENPLATFORM_URL='http://127.0.0.1:8000'\n")
    assert seed(env_file)["GENPLATFORM_URL"] == "http://127.0.0.1:8000"


def test_a_lost_file_brings_new_keys_and_a_new_password(env_file: Path) -> None:
    first = seed(env_file)
    env_file.unlink()
    second = seed(env_file)
    assert second["GENPLATFORM_KEY"] != first["GENPLATFORM_KEY"]
    assert User.objects.get(username="admin").check_password(second["ADMIN_PASSWORD"])


def test_the_password_of_the_environment_wins(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(env_file)
    monkeypatch.setenv("ADMIN_PASSWORD", "it's chosen by me")
    seed(env_file)
    assert User.objects.get(username="admin").check_password("it's chosen by me")
    seed(env_file)  # the quoted line is read back whole
    monkeypatch.delenv("ADMIN_PASSWORD")
    seed(env_file)
    assert User.objects.get(username="admin").check_password("it's chosen by me")


def test_a_tier_that_ops_edited_stays(env_file: Path) -> None:
    seed(env_file)
    Tier.objects.filter(slug="pro").update(requests_per_minute=1234)
    seed(env_file)
    assert Tier.objects.get(slug="pro").requests_per_minute == 1234

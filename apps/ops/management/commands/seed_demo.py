"""`manage.py seed_demo --env-file PATH`: two teams to try the platform with, and the keys in a file.

Keys are shown once, so the file is where they live: what it holds is kept as long as it works, and only
what is missing is issued anew. Other lines of the file stay.
"""

import os
import secrets
import shlex
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from apps.accounts import keys, tiers
from apps.accounts.models import ApiKey, Team, Tier, User
from apps.core import clock

# Line of the file: user, team, tier.
PEOPLE = {
    "GENPLATFORM_KEY": ("pro", "Acme", "pro"),
    "GENPLATFORM_OTHER_KEY": ("other", "Globex", "pro"),
    "GENPLATFORM_FREE_KEY": ("free", "Acme", "free"),
    "GENPLATFORM_BROKE_KEY": ("broke", "Acme", "pro"),
}
ADMIN = "admin"


class Command(BaseCommand):
    help = "Creates demo teams, users, keys and an administrator; running it again keeps what works."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--env-file", type=Path, required=True, help="Where the keys are kept (mode 0600)"
        )

    def handle(self, *args: Any, env_file: Path, **options: Any) -> None:
        lines = _read(env_file)
        with transaction.atomic():
            known_tiers = tiers.ensure()
            for line, (username, team, tier) in PEOPLE.items():
                user = _user(username, team=team, tier=known_tiers[tier])
                lines[line] = _working_key(lines.get(line, ""), user)
            _use_up_budget(User.objects.get(username="broke"))
            lines["ADMIN_USER"] = ADMIN
            lines["ADMIN_PASSWORD"] = _admin_password(lines.get("ADMIN_PASSWORD", ""))
            # Before the commit: keys that nobody could read would be worth nothing.
            _write(env_file, lines)
        self.stdout.write(f"demo accounts are ready, their keys are in {env_file}")


def _user(username: str, *, team: str, tier: Tier) -> User:
    owner, _ = Team.objects.get_or_create(name=team)
    # One of the team sees what all of it used, and says where its webhooks go.
    defaults = {"team": owner, "tier": tier, "is_team_admin": username == "pro"}
    user, new = User.objects.get_or_create(username=username, defaults=defaults)
    if new:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    return user


def _working_key(text: str, user: User) -> str:
    digest = keys.parse(text)
    key = ApiKey.objects.filter(digest=digest, user=user).first() if digest else None
    if key and key.is_valid(clock.now()):
        return text
    return keys.issue(user, name="demo", scopes=ApiKey.Scope.values)[1]


def _use_up_budget(user: User) -> None:
    """A tier whose month has no budget: the first cent is refused."""
    user.tier, _ = Tier.objects.get_or_create(
        slug="used-up",
        defaults={**tiers.STANDARD["pro"], "name": "Budget used up", "monthly_budget_usd": 0},
    )
    user.save(update_fields=["tier"])


def _admin_password(kept: str) -> str:
    """ADMIN_PASSWORD of the environment, else the kept one, else a new one."""
    admin, _ = User.objects.get_or_create(
        username=ADMIN, defaults={"is_staff": True, "is_superuser": True, "email": "admin@example.com"}
    )
    # Like createsuperuser, a command for people: the one place outside the settings that reads it.
    password = os.environ.get("ADMIN_PASSWORD") or kept or secrets.token_urlsafe(18)
    if not admin.check_password(password):
        admin.set_password(password)
        admin.save(update_fields=["password"])
    return password


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    words = shlex.split(path.read_text(), comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def _write(path: Path, lines: dict[str, str]) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={shlex.quote(value)}\n" for name, value in lines.items())
    draft.replace(path)

"""`manage.py prepare`: bring database and catalog up to date; run it before the processes of a release start."""

from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Migrates, synchronizes the catalog and, when asked, seeds the demo accounts. Safe to repeat."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--demo-env", type=Path, help="Also seed demo accounts; their keys go to this file"
        )

    def handle(self, *args: Any, demo_env: Path | None, **options: Any) -> None:
        call_command("migrate", interactive=False)
        call_command("sync_catalog")
        if demo_env:
            call_command("seed_demo", env_file=demo_env)

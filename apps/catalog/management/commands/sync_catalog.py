"""`manage.py sync_catalog [FILE]`: brings models, routes and prices to a catalog file."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.catalog import sync


class Command(BaseCommand):
    help = "Brings models, routes and prices to a catalog file; rows edited in the admin are left alone."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, default=sync.FILE)
        parser.add_argument(
            "--dry-run", action="store_true", help="Say what would change, and change nothing"
        )

    def handle(self, *args: Any, file: Path, dry_run: bool, **options: Any) -> None:
        try:
            changes = sync.sync(file, dry_run=dry_run)
        except sync.CatalogFileError as error:
            raise CommandError(str(error)) from error
        for line in changes or ["nothing to change"]:
            self.stdout.write(line)

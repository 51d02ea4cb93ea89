"""`manage.py process NAME`: become one process of the platform. Docker Compose runs this, one per service."""

import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from genplatform.stack import processes


class Command(BaseCommand):
    help = "Becomes one of the platform's processes."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", choices=[process.name for process in processes.listed({})])

    def handle(self, *args: Any, **options: Any) -> None:
        process = processes.named(options["name"], os.environ)
        if missing := [name for name in process.needs if not os.environ.get(name)]:
            raise CommandError(f"{process.name} needs {', '.join(missing)}")
        # The same process id, so that signals from the container's runtime arrive.
        os.execvpe(process.command[0], process.command, {**os.environ, **process.env})  # noqa: S606

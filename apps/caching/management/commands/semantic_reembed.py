"""`manage.py semantic_reembed`: vectors by the present embedder for results that have none, as after a change of it."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.caching.semantic import embedders, lookup


class Command(BaseCommand):
    help = (
        "Embeds the prompts of cached results that have no vector of the configured embedder. Safe to repeat."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            embedder = embedders.configured()
            if embedder is None:
                raise CommandError("EMBEDDER is empty: tier 3 is off")
            count = 0
            while done := lookup.catch_up(embedder):
                count += done
        except embedders.EmbedderUnavailable as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{count} results embedded by {embedder.id}")

"""`manage.py cache_collisions`: every class of prompts that tier 2 takes for one."""

from typing import Any

from django.core.management.base import BaseCommand

from apps.caching.canonical import collisions, form


class Command(BaseCommand):
    help = "Lists every class of prompts that the canonicaliser merges, and fails if one is not merged."

    def handle(self, *args: Any, **options: Any) -> None:
        wrong = 0
        for each in collisions.classes():
            same = form.of(each.left) == form.of(each.right)
            wrong += not same
            self.stdout.write(f"{each.rule}: {each.left!r} = {each.right!r}{'' if same else '  NOT MERGED'}")
        if wrong:
            raise SystemExit(1)

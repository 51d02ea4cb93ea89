"""`make up`: the whole platform on this machine, until Ctrl-C."""

from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.text import Text

from genplatform.stack import local
from genplatform.stack.embedded import NotStarted
from genplatform.stack.supervisor import NotReady

_COLOURS = {
    "stack": "bold white",
    "simulator": "magenta",
    "web": "green",
    "io": "cyan",
    "cpu": "blue",
    "beat": "yellow",
    "flower": "bright_black",
}


class Command(BaseCommand):
    help = "Runs servers, web, workers, beat, Flower and the simulator until Ctrl-C."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        console = Console(highlight=False, soft_wrap=True)

        def say(name: str, line: str) -> None:
            console.print(Text.assemble((f"{name:>9} ", _COLOURS.get(name, "white")), line))

        run = local.run_directory()
        try:
            with local.running(run, say=say) as stack:
                console.rule("genplatform is up")
                console.print(Text(_welcome(stack.access)))  # no frame: it is there to be copied
                console.rule()
                while True:
                    stack.supervisor.tick()
        except KeyboardInterrupt:
            say("stack", f"stopped; everything is kept in {run}")
        except (local.Failed, NotStarted, NotReady) as problem:
            raise CommandError(str(problem)) from problem


def _welcome(access: Mapping[str, str]) -> str:
    url = access["GENPLATFORM_URL"]
    return f"""\
API        {url}/v1     docs {url}/v1/docs
Admin      {access["ADMIN_URL"]}     {access["ADMIN_USER"]} / {access["ADMIN_PASSWORD"]}
Flower     {access["FLOWER_URL"]}     {access["FLOWER_USER"]} / {access["FLOWER_PASSWORD"]}
Provider   {access["SIMULATOR_URL"] or "the real one"}
Keys       .run/demo.env (source it)     logs .run/logs/     Ctrl-C stops everything

curl -s {url}/v1/jobs \\
  -H "Authorization: Bearer {access.get("GENPLATFORM_KEY", "")}" \\
  -H "Content-Type: application/json" \\
  -d '{{"type": "image", "prompt": "a lighthouse above a calm sea at dusk"}}'"""

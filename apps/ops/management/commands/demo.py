"""`make demo`: start everything, run one job over HTTP and watch it, ask again, show the bill, stop everything."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from genplatform.stack import child, local
from genplatform.stack.embedded import NotStarted
from genplatform.stack.supervisor import NotReady

_LIMIT_S = 90
_LOOK_EVERY_S = 0.2
_PROMPT = "a lighthouse above a calm sea at dusk, oil on canvas"
_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


class Unexpected(Exception):
    """The platform answered something else than it should. `log` names whose log knows more."""

    def __init__(self, message: str, *, log: str = "web") -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True)
class Answered:
    """One request and its finished job. `took_s`: from sending the request to the result."""

    status: int
    job: dict[str, Any]
    took_s: float


@dataclass(frozen=True)
class Books:
    """What was charged so far, USD: by us to the demo user, and by the simulator to us (None: a real provider)."""

    spent: Decimal
    remaining: Decimal
    billed: Decimal | None


class Command(BaseCommand):
    help = "Runs one image job through the whole platform and shows what happened."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        console = Console(highlight=False)
        run = local.run_directory()
        try:
            with _stack(run, console) as stack:
                _tour(Tour(stack.access, stack.supervisor.tick), run, console)
        except KeyboardInterrupt:
            raise CommandError("interrupted; everything is stopped") from None
        except (local.Failed, NotStarted, NotReady) as problem:
            raise CommandError(str(problem)) from problem
        except (Unexpected, httpx.HTTPError) as problem:
            log = run / "logs" / f"{getattr(problem, 'log', 'web')}.log"
            raise CommandError(f"{problem}\n{log} ends with:\n{child.tail(log)}") from problem


@contextmanager
def _stack(run: Path, console: Console) -> Iterator[local.Stack]:
    """The running stack; what starts and stops is shown in one line, everything else goes to the logs."""
    began_at = time.monotonic()
    with console.status("starting") as status:

        def say(name: str, line: str) -> None:
            if name == "stack":
                status.update(line)

        with local.running(run, say=say) as stack:
            status.stop()
            count = len(stack.supervisor.watched)
            console.print(f"{count} processes are ready after {time.monotonic() - began_at:.1f} s")
            yield stack
            status.start()
    console.print(
        "everything is stopped; data and logs stay in .run/   (`make up` keeps it running)", soft_wrap=True
    )


class Tour:
    """The demo's side of the API. `tick` keeps the supervisor going while we wait."""

    def __init__(self, access: Mapping[str, str], tick: Callable[[], None]) -> None:
        self._api = httpx.Client(
            base_url=access["GENPLATFORM_URL"],
            headers={"Authorization": f"Bearer {access['GENPLATFORM_KEY']}"},
            timeout=30,
        )
        self._simulator_url, self._tick = access["SIMULATOR_URL"], tick
        self._until = time.monotonic() + _LIMIT_S

    def submit(self, body: Mapping[str, Any], *, expected: int) -> Answered:
        """POST /v1/jobs. Raises Unexpected for another status than `expected`."""
        began_at = time.monotonic()
        answer = self._api.post("/v1/jobs", json=body)
        if answer.status_code != expected:
            raise Unexpected(f"POST /v1/jobs: {answer.status_code} {answer.text}, not {expected}")
        return Answered(answer.status_code, answer.json(), time.monotonic() - began_at)

    def watch(self, submitted: Answered) -> Iterator[Answered]:
        """The job as it goes on, and at last finished. Raises Unexpected if it fails or takes too long."""
        began_at = time.monotonic() - submitted.took_s
        job = submitted.job
        while job["finished_at"] is None:
            if time.monotonic() > self._until:
                raise Unexpected(f"the job is still {job['phase']} after {_LIMIT_S} s", log="io")
            self._tick()
            time.sleep(_LOOK_EVERY_S)
            job = self._json(self._api.get(submitted.job["urls"]["self"]))
            yield Answered(submitted.status, job, time.monotonic() - began_at)
        if job["status"] != "completed":
            raise Unexpected(f"the job {job['status']}: {job['error']}", log="io")

    def save(self, job: Mapping[str, Any], folder: Path) -> Path:
        """Downloads the first output into `folder`."""
        output = job["outputs"][0]
        answer = self._api.get(output["url"]).raise_for_status()
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{job['id']}.{_EXTENSIONS[answer.headers['content-type'].split(';')[0]]}"
        file.write_bytes(answer.content)
        return file

    def books(self) -> Books:
        budget = self._json(self._api.get("/v1/budget"))
        billed = None
        if self._simulator_url:
            summary = self._json(httpx.get(f"{self._simulator_url}/admin/summary"))
            billed = Decimal(summary["charged_usd"])
        return Books(Decimal(budget["spent_usd"]), Decimal(budget["remaining_usd"]), billed)

    def close(self) -> None:
        self._api.close()

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.status_code != httpx.codes.OK:
            raise Unexpected(f"GET {answer.request.url.path}: {answer.status_code} {answer.text}")
        body: dict[str, Any] = answer.json()
        return body


def _tour(tour: Tour, run: Path, console: Console) -> None:
    # A seed of this moment: a second demo buys a new picture, and only the repetition is a cache hit.
    request = {"type": "image", "prompt": _PROMPT, "params": {"seed": int(time.time())}}
    before = tour.books()
    console.print(f'POST /v1/jobs  "{_PROMPT}"')
    first = submitted = tour.submit(request, expected=202)
    with Live(console=console, refresh_per_second=10) as live:
        for first in tour.watch(submitted):
            live.update(_progress(first))
    if not console.is_terminal:
        console.line()  # in a pipe, Live leaves its last line open
    console.print(f"saved the image to {tour.save(first.job, run / 'demo')}", soft_wrap=True)
    second = tour.submit(request, expected=200)
    if not second.job["cached"] or Decimal(second.job["cost_usd"]):
        raise Unexpected(f"the same request again was not free: {second.job}")
    after = tour.books()
    tour.close()
    console.print(_summary(first, second, before, after))
    if after.billed is not None and before.billed is not None:
        charged, billed = after.spent - before.spent, after.billed - before.billed
        if charged != billed:
            raise Unexpected(f"the provider billed ${billed}, we charged ${charged}", log="io")


def _progress(answered: Answered) -> Table:
    job = answered.job
    row = Table.grid(padding=(0, 2))
    row.add_row(
        f"{job['phase']:<12}",
        ProgressBar(total=1.0, completed=job["progress"], width=30),
        f"{job['progress']:4.0%}",
        f"{answered.took_s:5.1f} s",
        f"estimated {_usd(job['estimated_cost_usd'])}" if job["cost_usd"] is None else _usd(job["cost_usd"]),
    )
    return row


def _summary(first: Answered, second: Answered, before: Books, after: Books) -> Table:
    table = Table(title="The same request twice")
    for column in ("", "first", "again"):
        table.add_column(column)
    pair = (first, second)
    table.add_row("answer", *(str(each.status) for each in pair))
    table.add_row("status", *(each.job["status"] for each in pair))
    table.add_row("time", *(f"{each.took_s:.3f} s" for each in pair))
    table.add_row("cost", *(_usd(each.job["cost_usd"]) for each in pair))
    table.add_row("cached", *("yes" if each.job["cached"] else "no" for each in pair))
    table.add_row("model", *(each.job["model"] for each in pair))
    table.add_row("provider", first.job["attempts"][-1]["provider"], "none was called", end_section=True)
    table.add_row("charged to the budget", _usd(after.spent - before.spent), f"{_usd(after.remaining)} left")
    if after.billed is not None and before.billed is not None:
        table.add_row("billed by the provider", _usd(after.billed - before.billed), "")
    return table


def _usd(amount: str | Decimal) -> str:
    """Without trailing zeros: $0.025, $0."""
    text = format(Decimal(amount), "f")
    return "$" + (text.rstrip("0").rstrip(".") if "." in text else text)

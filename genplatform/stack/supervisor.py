"""Starts processes, watches them, and leaves nobody behind.

Every child writes straight to its own log file, so no child ever waits for us to read; we follow the files.
The caller drives the supervisor by calling `tick` (or `wait_ready`) from the main thread.
"""

import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from genplatform.stack import child
from genplatform.stack.processes import Process

_STOP_GRACE_S = 10
_RESTART_DELAYS_S = (0.5, 1, 2, 5, 10, 30)
_STEADY_S = 30  # up for so long, a child's earlier crashes are forgotten
_HOPELESS = 3  # crashes in a row while somebody waits for it
_TICK_S = 0.1

Say = Callable[[str, str], None]


class NotReady(Exception):
    """A process did not become ready. The message names it and ends with the tail of its log."""


class Watched:
    """One process: its child when it runs, its log, and when it may start again."""

    def __init__(self, process: Process, *, environ: Mapping[str, str], log: Path) -> None:
        self.process, self.log = process, log
        self.child: subprocess.Popen[bytes] | None = None
        self.ready = False
        self._env = {**environ, **process.env}
        self.delay_s = 0.0
        self.crashes = 0
        self._started_at = self._restart_at = 0.0
        self._read = 0

    def start(self) -> None:
        self.ready = False
        self._started_at = time.monotonic()
        with self.log.open("ab") as output:
            self.child = child.start(self.process.command, output=output, env=self._env)

    def new_lines(self) -> list[str]:
        """Whole lines written since the last call."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        return whole.decode(errors="replace").splitlines() if whole else []

    def crashed(self) -> int | None:
        """The exit code, once, of a child that ended by itself; schedules its restart."""
        if self.child is None or (code := self.child.poll()) is None:
            return None
        child.kill(self.child)  # what its group still holds
        now = time.monotonic()
        self.crashes = 0 if now - self._started_at > _STEADY_S else self.crashes
        self.delay_s = _RESTART_DELAYS_S[min(self.crashes, len(_RESTART_DELAYS_S) - 1)]
        self._restart_at = now + self.delay_s
        self.crashes += 1
        self.child, self.ready = None, False
        return code

    def due(self) -> bool:
        return self.child is None and time.monotonic() >= self._restart_at

    def look_ready(self, lines: Sequence[str]) -> bool:
        """Whether it has become ready, by its new log lines or its URL."""
        if self.process.ready_line:
            return any(self.process.ready_line in line for line in lines)
        return not self.process.ready_url or _answers(self.process.ready_url)


class Supervisor:
    """Processes started in order and stopped in reverse; a crashed one is started again, later each time.

    `say(name, line)` receives every log line, and under the name "stack" what the supervisor itself does.
    """

    def __init__(
        self, processes: Sequence[Process], *, environ: Mapping[str, str], logs: Path, say: Say
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._say = say
        self.watched = {
            process.name: Watched(process, environ=environ, log=logs / f"{process.name}.log")
            for process in processes
        }
        for each in self.watched.values():
            each.log.write_bytes(b"")

    def start(self) -> None:
        for each in self.watched.values():
            each.start()

    def tick(self) -> None:
        """One round: pass on what was written, notice who crashed, start who is due, then rest a moment."""
        for name, each in self.watched.items():
            lines = each.new_lines()
            for line in lines:
                self._say(name, line)
            if (code := each.crashed()) is not None:
                why = f"{name} ended ({_reason(code)})"
                self._say("stack", f"{why}; again in {each.delay_s:g} s. Its log: {each.log}")
            elif each.due():
                self._say("stack", f"starting {name} again")
                each.start()
            elif each.child and not each.ready:
                each.ready = each.look_ready(lines)
        time.sleep(_TICK_S)

    def wait_ready(self, timeout_s: float) -> None:
        """Ticks until every process is ready. Raises NotReady after `timeout_s` seconds, or if one crashes always."""
        until = time.monotonic() + timeout_s
        while waiting := [name for name, each in self.watched.items() if not each.ready]:
            hopeless = [name for name in waiting if self.watched[name].crashes >= _HOPELESS]
            if hopeless or time.monotonic() > until:
                waiting = hopeless or waiting
                log = self.watched[waiting[0]].log
                raise NotReady(f"not ready: {', '.join(waiting)}. {log} ends with:\n{child.tail(log)}")
            self.tick()

    def kill(self, name: str) -> None:
        """Kill -9 for one process and its whole group. The next tick notices."""
        if running := self.watched[name].child:
            child.kill(running)

    def restart(self, name: str, timeout_s: float) -> None:
        """Starts `name` (again) now, and returns when all are ready. Raises NotReady after `timeout_s` seconds."""
        self.kill(name)
        self.watched[name].start()
        self.wait_ready(timeout_s)

    def stop(self) -> None:
        """Asks all to end, the last started first; after 10 s kills whoever is left. Safe to call twice."""
        running = [each.child for each in reversed(self.watched.values()) if each.child]
        for process in running:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        until = time.monotonic() + _STOP_GRACE_S
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
        for process in running:
            child.kill(process)
        for each in self.watched.values():
            each.child = None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own http URL
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _reason(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

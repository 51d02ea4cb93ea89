"""The supervisor, on trivial children."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genplatform.stack.processes import Process
from genplatform.stack.supervisor import NotReady, Supervisor

_SLEEP = "import time; print('up', flush=True); time.sleep(600)"
_STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + _SLEEP
# A child with a grandchild, as gunicorn and a prefork worker have.
_FAMILY = (
    f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', '{_SLEEP}']).pid, flush=True);"
)
_FAMILY = _FAMILY.replace("'up'", '"up"') + _SLEEP


def _python(name: str, code: str, ready_line: str = "up") -> Process:
    return Process(name, (sys.executable, "-c", code), ready_line=ready_line)


class Stage:
    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.said: list[tuple[str, str]] = []
        self.supervisors: list[Supervisor] = []

    def supervise(self, *processes: Process) -> Supervisor:
        def say(name: str, line: str) -> None:
            self.said.append((name, line))

        supervisor = Supervisor(processes, environ=os.environ, logs=self.logs, say=say)
        self.supervisors.append(supervisor)
        supervisor.start()
        return supervisor

    def crashes(self) -> list[str]:
        return [line for name, line in self.said if name == "stack" and " ended (" in line]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path / "logs")
    yield stage
    for supervisor in stage.supervisors:
        supervisor.stop()


def _pid(supervisor: Supervisor, name: str) -> int:
    running = supervisor.watched[name].child
    assert running
    return running.pid


def _alive(pid: int) -> bool:
    """Zombies are dead: in a container nobody may bury them."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def _until(holds: Callable[[], bool], what: str, timeout_s: float = 15) -> None:
    until = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < until, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


def test_a_crashed_child_is_started_again_and_said_so(stage: Stage) -> None:
    supervisor = stage.supervise(_python("one", _SLEEP), _python("two", _SLEEP))
    supervisor.wait_ready(20)
    first, other = _pid(supervisor, "one"), _pid(supervisor, "two")
    supervisor.kill("one")
    supervisor.tick()
    supervisor.wait_ready(20)
    assert _pid(supervisor, "one") != first
    assert _pid(supervisor, "two") == other
    assert ["one ended (killed by SIGKILL)" in crash for crash in stage.crashes()] == [True]


def test_a_child_that_keeps_crashing_is_started_later_each_time(stage: Stage) -> None:
    supervisor = stage.supervise(_python("one", "raise SystemExit(3)"))
    until = time.monotonic() + 20
    while len(stage.crashes()) < 3 and time.monotonic() < until:
        supervisor.tick()
    delays = [crash.split("again in ")[1].split(" s.")[0] for crash in stage.crashes()]
    assert delays == ["0.5", "1", "2"]
    assert "exit code 3" in stage.crashes()[0]


def test_waiting_ends_early_for_a_child_that_cannot_start(stage: Stage) -> None:
    supervisor = stage.supervise(_python("one", "raise SystemExit('the reason')"))
    with pytest.raises(NotReady, match=r"one[\s\S]*the reason"):
        supervisor.wait_ready(60)
    assert len(stage.crashes()) == 3


def test_output_is_kept_in_a_log_and_passed_on_line_by_line(stage: Stage) -> None:
    supervisor = stage.supervise(_python("one", "print('first\\nup', flush=True);" + _SLEEP))
    supervisor.wait_ready(20)
    assert [line for name, line in stage.said if name == "one"][:2] == ["first", "up"]
    assert (stage.logs / "one.log").read_text().startswith("first\nup\n")


def test_a_process_that_is_never_ready_is_named_with_the_tail_of_its_log(tmp_path: Path) -> None:
    process = _python("mute", "import time; print('the reason', flush=True); time.sleep(600)", "never said")
    supervisor = Supervisor([process], environ=os.environ, logs=tmp_path, say=lambda *_: None)
    supervisor.start()
    try:
        with pytest.raises(NotReady, match=r"mute[\s\S]*the reason"):
            supervisor.wait_ready(1.5)
    finally:
        supervisor.stop()


def test_stop_ends_children_grandchildren_and_the_stubborn(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genplatform.stack.supervisor._STOP_GRACE_S", 0.5)
    supervisor = stage.supervise(_python("family", _FAMILY), _python("stubborn", _STUBBORN))
    supervisor.wait_ready(20)
    grandchild = int((stage.logs / "family.log").read_text().split()[0])
    everyone = [_pid(supervisor, "family"), _pid(supervisor, "stubborn"), grandchild]
    assert all(map(_alive, everyone))
    supervisor.stop()
    _until(lambda: not any(map(_alive, everyone)), "no process left")


_SUPERVISE = """
import os, sys
from pathlib import Path
from genplatform.stack.processes import Process
from genplatform.stack.supervisor import Supervisor
sleep = (sys.executable, "-c", {code!r})
both = [Process(name, sleep, ready_line="up") for name in ("one", "two")]
supervisor = Supervisor(both, environ=os.environ, logs=Path({logs!r}), say=lambda *_: None)
supervisor.start()
supervisor.wait_ready(20)
print(*(each.child.pid for each in supervisor.watched.values()), flush=True)
while True:
    supervisor.tick()
"""


def test_no_child_outlives_a_supervisor_that_was_killed_9(tmp_path: Path) -> None:
    code = _SUPERVISE.format(code=_STUBBORN, logs=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        children = [int(pid) for pid in process.stdout.readline().split()]
        assert len(children) == 2
        assert all(map(_alive, children))
        process.send_signal(signal.SIGKILL)
    _until(lambda: not any(map(_alive, children)), "no orphan")

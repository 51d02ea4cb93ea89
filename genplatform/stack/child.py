"""A child process that never outlives its parent.

`start` gives each child a process group of its own and ties it to us: if we die without a word (kill -9),
the kernel sends the child a signal (prctl(2), PR_SET_PDEATHSIG). The tie is made by running this file as a
script just before the child's own command, so it holds after `unshare` or `setpriv` changed the identity.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1


def start(
    command: Sequence[str],
    *,
    output: IO[bytes] | int,
    env: Mapping[str, str] | None = None,
    on_parent_death: signal.Signals = signal.SIGKILL,
    as_user: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """Starts `command` in its own process group; `as_user` is a prefix that changes the identity first.

    Call it from the main thread: the kernel ties a child to the thread that made it. Raises OSError if the
    first program cannot be run; anything later shows as an exit code.
    """
    tie = [sys.executable, "-I", "-S", __file__, on_parent_death.name, str(os.getpid())]
    return subprocess.Popen(  # noqa: S603 - our own commands
        [*as_user, *tie, *command],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        process_group=0,
    )


def stop(
    process: subprocess.Popen[bytes], *, by: signal.Signals = signal.SIGTERM, grace_s: float = 10
) -> None:
    """Asks the child to end, and after `grace_s` seconds kills its whole group. Returns when it has ended."""
    if process.poll() is None:
        process.send_signal(by)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 for the whole group, also for what the leader left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # EPERM is macOS' word for a zombie
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tail(log: Path, lines: int = 20) -> str:
    """The last lines a child wrote, for a message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log)"


def _run_tied(on_parent_death: str, parent: str, *command: str) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.Signals[on_parent_death]))
        if os.getppid() != int(parent):
            sys.exit("the parent ended before its child began")
    os.execvp(command[0], command)  # noqa: S606 - replacing ourselves is the point


if __name__ == "__main__":
    _run_tied(*sys.argv[1:])

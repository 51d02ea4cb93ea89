"""Which port each server listens on: chosen by the environment, remembered from last time, or free."""

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path

_FILE = "ports.json"


def choose(
    run: Path, name: str, *, preferred: int | None = None, given: Mapping[str, str] = os.environ
) -> int:
    """The port for `name` (an environment variable's name): its value in `given`, the preferred one, the
    one used last time, or a free one."""
    if value := given.get(name):
        return int(value)
    known = _read(run)
    for port in (preferred, known.get(name)):
        if port and is_free(port):
            break
    else:
        port = free()
    _write(run, {**known, name: port})
    return port


def remembered(run: Path, name: str) -> int | None:
    """The port used last time, whoever listens there now."""
    given = os.environ.get(name)
    return int(given) if given else _read(run).get(name)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _read(run: Path) -> dict[str, int]:
    try:
        known: dict[str, int] = json.loads((run / _FILE).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return known


def _write(run: Path, known: dict[str, int]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / _FILE).write_text(json.dumps(known, indent=1) + "\n")

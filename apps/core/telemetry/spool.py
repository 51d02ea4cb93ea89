"""What the processes of this machine counted, in files that outlive them.

Each process adds into a mapped file of its own (a store into memory: nothing is lost when it is killed) and holds a
lock on it while it lives. Whoever reads adds up all files; those of the dead it folds into one and removes. The kernel
frees the lock of a dead process, so nothing has to be told about ends, and process ids may repeat (containers that
share the directory).
"""

import fcntl
import json
import mmap
import os
import struct
import threading
import uuid
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import structlog

from apps.core.telemetry import instruments
from apps.core.telemetry.instruments import OTHER, Instrument, Labels, Totals

log = structlog.get_logger(__name__)

# Room for thousands of series. The file is sparse: what is not written occupies nothing.
_BYTES: Final = 1 << 20
# Combinations of labels of one instrument in one process; what comes beyond is counted as `other`.
MAX_SERIES: Final = 400
_ENDED: Final = "ended.json"


class Spool:
    """This process's own file, opened at the first observation. Safe in threads and across forks."""

    def __init__(self) -> None:
        self._folder: Path | str | None = None
        self._file: _File | None = None
        self._lock = threading.Lock()
        self._forget()
        os.register_at_fork(after_in_child=self._forked)

    def add(self, folder: Path | str, instrument: Instrument, labels: Labels, value: float) -> None:
        """One observation. A directory that can't be written costs the figures, never the work."""
        with self._lock:
            if folder != self._folder:
                self._forget()
                self._folder = folder
            at = self._places.get((instrument.name, labels))
            if at is None:
                at = self._open(folder, instrument, labels)
            if at < 0 or self._file is None:
                return
            numbers = self._file.numbers
            numbers[at] += value
            if instrument.bounds:
                numbers[at + 1 + bisect_left(instrument.bounds, value)] += 1

    def _open(self, folder: Path | str, instrument: Instrument, labels: Labels) -> int:
        """Where the series is kept; -1: nowhere."""
        if self._count.get(instrument.name, 0) >= MAX_SERIES:
            labels = (OTHER,) * len(labels)
            if (instrument.name, labels) in self._places:
                return self._places[instrument.name, labels]
        try:
            self._file = self._file or _File(Path(folder))
            at = self._file.place(json.dumps([instrument.name, labels]), instrument.size)
        except OSError as error:
            at = -1
            log.warning("metrics.not_kept", error=type(error).__name__)
        self._places[instrument.name, labels] = at
        self._count[instrument.name] = self._count.get(instrument.name, 0) + 1
        return at

    def _forget(self) -> None:
        if self._file:
            os.close(self._file.descriptor)
        self._file = None
        self._places: dict[tuple[str, Labels], int] = {}
        self._count: dict[str, int] = {}

    def _forked(self) -> None:
        """The file is the parent's, and so is its lock: a descriptor left open here would keep it after its death."""
        self._lock = threading.Lock()
        self._forget()


class _File:
    """Header: how many bytes are used. Then for each series the lengths of its key and of its numbers, the key padded
    to eight bytes, the numbers: aligned, so that each is stored at once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Under the directory's lock: a reader must not find the file before it is locked, and take us for dead.
        with _locked(folder):
            path = folder / f"{uuid.uuid4().hex}.live"
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            os.ftruncate(self.descriptor, _BYTES)
        self._map = mmap.mmap(self.descriptor, _BYTES)
        self.numbers = memoryview(self._map).cast("d")
        self._used = 8
        self._publish()

    def place(self, key: str, count: int) -> int:
        """The index of the first of the series' `count` numbers; -1 when the file is full."""
        raw = key.encode()
        head = struct.pack("=II", len(raw), count) + raw + b" " * (-len(raw) % 8)
        begin, end = self._used + len(head), self._used + len(head) + 8 * count
        if end > _BYTES:
            return -1
        self._map[self._used : begin] = head
        self._used = end
        self._publish()
        return begin // 8

    def _publish(self) -> None:
        self._map[0:8] = struct.pack("=Q", self._used)


def totals(folder: Path) -> Totals:
    """What all processes of this machine counted, the dead ones included."""
    if not folder.exists():
        return {}
    with _locked(folder):
        files, counted = _ended(folder)
        for path in folder.glob("*.live"):
            if path.name in files:
                # Folded before, and its reader died before it was removed.
                path.unlink()
        gone = [path for path in folder.glob("*.live") if _is_left(path)]
        if gone:
            for path in gone:
                instruments.add(counted, _read(path))
            _write_ended(folder, [path.name for path in gone], counted)
            for path in gone:
                path.unlink()
        for path in folder.glob("*.live"):
            instruments.add(counted, _read(path))
    return counted


def _read(path: Path) -> Totals:
    raw = path.read_bytes()
    found: Totals = {}
    # A process that died as it began has written nothing.
    used, at = struct.unpack_from("=Q", raw)[0] if len(raw) == _BYTES else 0, 8
    while at < used:
        length, count = struct.unpack_from("=II", raw, at)
        name, labels = json.loads(raw[at + 8 : at + 8 + length])
        at += 8 + length + -length % 8
        found[name, tuple(labels)] = list(struct.unpack_from(f"={count}d", raw, at))
        at += 8 * count
    return found


def _ended(folder: Path) -> tuple[set[str], Totals]:
    """The files folded last, and what all dead processes counted."""
    path = folder / _ENDED
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"files": [], "series": []}
    return set(kept["files"]), {(name, tuple(labels)): values for name, labels, values in kept["series"]}


def _write_ended(folder: Path, files: list[str], counted: Totals) -> None:
    """In one step: a reader that dies in here has folded all of the files or none."""
    series = [[name, labels, values] for (name, labels), values in counted.items()]
    fresh = folder / f"{_ENDED}.new"
    fresh.write_text(json.dumps({"files": files, "series": series}))
    fresh.replace(folder / _ENDED)


def _is_left(path: Path) -> bool:
    """Whether the process whose file it is has ended."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

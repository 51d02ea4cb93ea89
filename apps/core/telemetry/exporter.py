"""Metrics to a collector, where one is configured: every so often all sums of this machine, by one of its processes.
What a killed process had counted is in the next export: the sums are the spool's."""

import fcntl
import os
import socket
import threading
import time
from pathlib import Path

from django.conf import settings

from apps.core.telemetry import spool

_running_in = 0
_descriptor = -1
_lock = threading.Lock()


def ensure_running() -> None:
    """Starts the thread of this process that exports, or waits for the one that does to die."""
    global _running_in
    if not settings.OTEL_EXPORTER_OTLP_ENDPOINT or _running_in == os.getpid():
        return
    with _lock:
        if _running_in != os.getpid():
            _running_in = os.getpid()
            threading.Thread(target=_export_for_ever, name="metrics", daemon=True).start()


def _export_for_ever() -> None:
    from apps.core.telemetry import otlp  # a megabyte of code that nobody needs without a collector

    folder = Path(settings.METRICS_DIR)
    while not _is_ours(folder):
        time.sleep(settings.OTEL_EXPORT_INTERVAL_S)
    while True:
        time.sleep(settings.OTEL_EXPORT_INTERVAL_S)
        otlp.push(spool.totals(folder), instance=f"{socket.gethostname()}:{folder}")


def _is_ours(folder: Path) -> bool:
    """One process of the machine exports; the kernel passes the lock on when it dies."""
    global _descriptor
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "exporter", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    _descriptor = descriptor
    return True


def _forked() -> None:
    """The lock is the parent's: a descriptor left open here would keep it after its death."""
    global _descriptor, _lock
    _lock = threading.Lock()
    if _descriptor >= 0:
        os.close(_descriptor)
        _descriptor = -1


os.register_at_fork(after_in_child=_forked)

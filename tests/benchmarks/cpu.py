"""CPU time of whole process trees, from /proc (Linux)."""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def used_ms(roots: Iterable[int]) -> float:
    """Milliseconds that the processes and all their descendants have used so far, ended children included."""
    children, ticks = _table()
    waiting, total = list(roots), 0
    while waiting:
        pid = waiting.pop()
        total += ticks.get(pid, 0)
        waiting += children[pid]
    return total * _TICK_MS


def rss_mb(root: int) -> float:
    """Resident memory of one process and its descendants, MB."""
    children, _ = _table()
    waiting, total_kb = [root], 0
    while waiting:
        pid = waiting.pop()
        waiting += children[pid]
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total_kb += int(line.split()[1])
    return total_kb / 1024


def _table() -> tuple[defaultdict[int, list[int]], dict[int, int]]:
    children: defaultdict[int, list[int]] = defaultdict(list)
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name in brackets may hold anything: the fields begin after its last bracket.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(entry.name)
        children[int(fields[1])].append(pid)
        ticks[pid] = sum(int(value) for value in fields[11:15])  # utime, stime, cutime, cstime
    return children, ticks

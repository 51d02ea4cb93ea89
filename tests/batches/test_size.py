"""A batch of the size that is promised: in how much memory and time it is accepted, read, and canceled."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from apps.batches import cancel
from apps.batches.models import Batch
from apps.jobs.models import Job
from apps.ledger.models import Entry, Hold
from tests import factories
from tests.batches.lines import item, jsonl, post, results

MB = 1024 * 1024


@contextmanager
def measured(what: str) -> Iterator[dict[str, float]]:
    """Seconds, and by how many MB the memory of this process grew at its peak (Linux: proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")
    before, began, found = _memory("VmRSS"), time.monotonic(), dict[str, float]()
    own_began = time.process_time()
    yield found
    found |= {"s": time.monotonic() - began, "mb": (_memory("VmHWM") - before) / MB}
    own_s = time.process_time() - own_began
    print(f"{what}: {found['s']:.2f} s ({own_s:.2f} s of this process), {found['mb']:.0f} MB")  # noqa: T201 - the figures of the long form


def _memory(name: str) -> int:
    [kilobytes] = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024


@pytest.mark.parametrize(
    ("count", "seconds", "megabytes"),
    [(2_000, 30, 60), pytest.param(50_000, 60, 100, marks=[pytest.mark.long, pytest.mark.timeout(600)])],
)
def test_a_large_batch_is_accepted_in_little_memory(count: int, seconds: int, megabytes: int) -> None:
    many = factories.someone(tier=factories.tier(monthly_budget_usd=Decimal(1000), max_batch_items=60_000))
    post(many, jsonl(item(-1)))
    content = jsonl(*map(item, range(count)))
    with measured(f"{count} items accepted") as accepting:
        answer = post(many, content)
    assert answer.status_code == 202, answer.content
    batch = Batch.objects.get(pk=answer.json()["id"])
    assert batch.total == Job.objects.filter(batch_id=batch.pk).count() == count
    assert (Hold.objects.count(), Entry.objects.count()) == (count + 1, count + 1)
    assert batch.held_usd == count * Decimal("0.005")
    with measured("looked at") as looking:
        many.api.get(f"/v1/batches/{batch.pk}")
    with measured("canceled") as canceling:
        cancel.ask(batch.pk)
        cancel.carry_out(batch.pk)
    batch.refresh_from_db()
    assert (batch.status, batch.canceled, batch.held_usd) == ("canceled", count, Decimal(0))
    with measured("results read") as reading:
        found = [line["custom_id"] for line in results(many, str(batch.pk))]
    assert found == [f"item-{number}" for number in range(count)]
    assert accepting["mb"] < megabytes
    assert max(accepting["s"], canceling["s"], reading["s"]) < seconds
    assert looking["s"] < 1

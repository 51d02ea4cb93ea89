"""What processes count is counted exactly, however many they are and however they end; and Prometheus can read it."""

import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from prometheus_client.parser import text_string_to_metric_families

from apps.core.telemetry import exposition, instruments, spool
from apps.core.telemetry.instruments import Instrument, Totals
from apps.core.telemetry.spool import MAX_SERIES, Spool
from apps.webhooks import metrics as declared  # noqa: F401 - an instrument to look at

EVENTS = Instrument("test.events.total", "counter", "1", "Events", ("who",))
TIMES = Instrument("test.times.seconds", "histogram", "s", "Times", (), (0.1, 1.0))
ONE = ("test.events.total", ("one",))
FORK = multiprocessing.get_context("fork")


def count(folder: Path, times: int) -> None:
    own = Spool()
    for _ in range(times):
        own.add(folder, EVENTS, ("one",), 1)
        own.add(folder, TIMES, (), 0.5)


def count_and_be_killed(folder: Path, times: int) -> None:
    count(folder, times)
    os.kill(os.getpid(), signal.SIGKILL)


def run(*processes: "multiprocessing.context.ForkProcess") -> None:
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode is not None


def events(folder: Path) -> float:
    return spool.totals(folder)[ONE][0]


def test_eight_processes_of_ten_thousand_events_are_counted_exactly(tmp_path: Path) -> None:
    run(*(FORK.Process(target=count, args=(tmp_path, 10_000)) for _ in range(8)))
    found = spool.totals(tmp_path)
    assert found[ONE] == [80_000]
    assert found["test.times.seconds", ()] == [40_000, 0, 80_000, 0]


def test_threads_of_a_process_lose_nothing(tmp_path: Path) -> None:
    own = Spool()

    def add_many() -> None:
        for _ in range(5_000):
            own.add(tmp_path, EVENTS, ("one",), 1)

    threads = [threading.Thread(target=add_many) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert events(tmp_path) == 40_000


def test_what_a_killed_process_counted_stays_and_its_file_goes(tmp_path: Path) -> None:
    for killed in range(1, 4):
        run(FORK.Process(target=count_and_be_killed, args=(tmp_path, 100)))
        assert events(tmp_path) == events(tmp_path) == 100 * killed
        assert list(tmp_path.glob("*.live")) == []


def test_a_fork_counts_for_itself_and_its_parent_goes_on(tmp_path: Path) -> None:
    own = Spool()
    own.add(tmp_path, EVENTS, ("one",), 1)

    def child() -> None:
        own.add(tmp_path, EVENTS, ("one",), 10)

    run(FORK.Process(target=child), FORK.Process(target=child))
    own.add(tmp_path, EVENTS, ("one",), 1)
    assert events(tmp_path) == 22
    assert len(list(tmp_path.glob("*.live"))) == 1


def test_a_reader_that_dies_while_it_folds_counts_nothing_twice(tmp_path: Path) -> None:
    run(FORK.Process(target=count, args=(tmp_path, 100)))
    [left] = tmp_path.glob("*.live")
    kept = left.read_bytes()
    assert events(tmp_path) == 100
    # As if it had died between the two steps: folded, and not removed yet.
    left.write_bytes(kept)
    assert events(tmp_path) == 100
    assert not left.exists()


def test_beyond_so_many_combinations_the_rest_is_other(tmp_path: Path) -> None:
    own = Spool()
    for number in range(MAX_SERIES + 50):
        own.add(tmp_path, EVENTS, (f"model-{number}",), 1)
    found = spool.totals(tmp_path)
    assert len(found) == MAX_SERIES + 1
    assert found["test.events.total", ("other",)] == [50]


def test_a_directory_that_cannot_be_written_costs_the_figures_only(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Spool().add(tmp_path / "file", EVENTS, ("one",), 1)
    assert spool.totals(tmp_path / "nowhere") == {}


def test_the_instruments_are_opentelemetrys(settings: Any, tmp_path: Path) -> None:
    settings.METRICS_DIR = str(tmp_path)
    made = metrics.get_meter("a room").create_counter("webhook.deliveries.total")
    made.add(2, {"outcome": "delivered", "unknown": "label"})
    made.add(-1, {"outcome": "delivered"})
    metrics.get_meter("a library").create_counter("its.own").add(1)
    assert spool.totals(tmp_path) == {("webhook.deliveries.total", ("delivered",)): [2]}


@pytest.mark.parametrize(
    ("kind", "name", "exposed"),
    [
        ("counter", "generation.requests.total", "generation_requests_total"),
        ("counter", "generation.cost.usd", "generation_cost_usd_total"),
        ("histogram", "generation.duration.seconds", "generation_duration_seconds"),
        ("gauge", "provider.breaker.state", "provider_breaker_state"),
    ],
)
def test_names_follow_opentelemetrys_rules(kind: instruments.Kind, name: str, exposed: str) -> None:
    assert Instrument(name, kind, "", "", ()).exposed == exposed


def test_prometheus_reads_the_text_as_it_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for known in (EVENTS, TIMES):
        monkeypatch.setitem(instruments.KNOWN, known.name, known)
    totals: Totals = {ONE: [3], (EVENTS.name, ('a "b"\\\n',)): [0.5], ("nobody's", ()): [1]}
    for value in (0.05, 0.1, 0.5, 7.0):
        instruments.observe(totals, TIMES, (), value)
    read = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(exposition.text(totals))
        for sample in family.samples
    }
    assert read == {
        ("test_events_total", "one"): 3,
        ("test_events_total", 'a "b"\\\n'): 0.5,
        ("test_times_seconds_bucket", "0.1"): 2,
        ("test_times_seconds_bucket", "1"): 3,
        ("test_times_seconds_bucket", "+Inf"): 4,
        ("test_times_seconds_sum",): 7.65,
        ("test_times_seconds_count",): 4,
    }

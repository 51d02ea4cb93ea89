"""Flaky providers, one of them dead for the middle third: hardly a job fails, and the dead one is left alone. Then they
are flakier still, and yet all of them are used."""

import json
import logging
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from genplatform.stack import processes
from genplatform.stack.processes import Process
from genplatform.stack.supervisor import Supervisor
from tests import live
from tests.chaos.crowd import Crowd
from tests.stack import Stack, running_stack

pytestmark = pytest.mark.timeout(2400)

log = logging.getLogger(__name__)

PROVIDERS = ("wavespeed", "replicate", "fal")
DEAD = "replicate"
ERRORS, FLAKY = 0.085, 0.3
MAX_CALLS_TO_THE_DEAD = 25
MAX_RECOVERY_S = 20

# Two more routes of fast-draft, each chosen as often as the first.
_OFFER = """
from decimal import Decimal
from apps.catalog.models import GenerationModel, Price, Route
Route.objects.filter(model_id="fast-draft").exclude(provider="wavespeed").update(active=False)
GenerationModel.objects.filter(slug="fast-draft").update(routing="weighted")
for position, name in enumerate(("replicate-ai/fast-draft", "fal-ai/fast-draft"), 1):
    made = {"provider": name.split("-")[0], "provider_model": name, "position": position}
    route = Route.objects.create(model_id="fast-draft", **made)
    Price.objects.create(route=route, version=1, unit="image", unit_price_usd=Decimal("0.005"))
"""
_ENV = {
    "JOB_LEASE_S": "20",
    "UNKNOWN_WAIT_S": "6",
    "CPU_PROCESSES": "2",
    "IO_THREADS": "16",
    # Not what is measured here: how busy the machine is.
    "PROVIDER_STATE_TIMEOUT_S": "2",
    "REDIS_TIMEOUT_S": "2",
}


@pytest.fixture(
    params=[(90, 2), pytest.param((2000, 4), marks=pytest.mark.long)], ids=["90 jobs", "2000 jobs"]
)
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    """How many jobs, and how many worker processes."""
    numbers: tuple[int, int] = request.param
    return numbers


@pytest.fixture
def fleet(tmp_path: Path, size: tuple[int, int]) -> Iterator[Stack]:
    with running_stack(tmp_path, env=_ENV) as stack, more_workers(stack, tmp_path, size[1] - 1):
        stack.sql(live._NO_LIMITS)
        stack.manage("shell", "-c", _OFFER)
        rates = dict.fromkeys(PROVIDERS, ERRORS)
        turn(stack, drawing="tiny", concurrency=4000, error_rates=rates)
        time.sleep(2.5)  # the catalog is read anew every two seconds
        yield stack


def test_hardly_a_job_fails_while_providers_err_and_one_is_dead_for_a_third(
    fleet: Stack, size: tuple[int, int]
) -> None:
    third = size[0] // 3
    # A lost answer's webhook is awaited for twice the p95 of attempts, and an outage makes those long.
    patience_s = 180 + third
    crowds = [submitted(fleet, third, "a fox")]
    crowds[0].end(within_s=patience_s)

    turn(fleet, dead=[DEAD])
    died_at = time.monotonic()
    crowds.append(submitted(fleet, third, "an owl"))
    crowds[1].until(lambda found: sum(found.values()) - found[""] >= 0.9 * third, within_s=patience_s)
    turn(fleet, dead=[])
    outage_s, healed_at = time.monotonic() - died_at, fleet.sql("SELECT now()")[0][0]

    # As much as is wanted at any time: it can be back only for somebody who orders.
    while not (back_at := first_order_taken(fleet, healed_at)):
        assert (fleet.sql("SELECT now()")[0][0] - healed_at).total_seconds() < 6 * MAX_RECOVERY_S
        crowds.append(submitted(fleet, 4, "a hen"))
        time.sleep(0.5)
    recovery_s = (back_at - healed_at).total_seconds()
    openings = openings_of(fleet)
    crowds.append(submitted(fleet, third, "a hare"))
    for crowd in crowds:
        crowd.end(within_s=patience_s)
    replayed = all_of(fleet, crowds)

    turn(fleet, error_rates=dict.fromkeys(PROVIDERS, FLAKY))
    crowds.append(submitted(fleet, third // 2, "a goat"))
    crowds[-1].end(within_s=patience_s)

    everybody = all_of(fleet, crowds)
    calls = calls_to_the_dead(fleet)
    failed, among_flakier = (crowd.statuses()["failed"] for crowd in (replayed, crowds[-1]))
    figures = (len(replayed.ids), size[1], failed, calls, outage_s, recovery_s)
    log.warning(
        "%s jobs, %s workers: %s failed, %s calls to the dead provider in %.0f s, back after %.1f s", *figures
    )
    log.warning("of %s at providers that fail 30 %%: %s failed", len(crowds[-1].ids), among_flakier)
    assert failed <= max(1, 0.001 * len(replayed.ids)), replayed.errors()
    # Four purchases fail in turn by chance: 0.26 ** 4, without those refused for their number.
    assert among_flakier <= max(1, 0.015 * len(crowds[-1].ids)), crowds[-1].errors()
    assert calls <= MAX_CALLS_TO_THE_DEAD
    # The short form runs beside other tests on a busy machine, where processes alone take seconds to be heard.
    assert recovery_s <= MAX_RECOVERY_S * (1 if size[0] == 2000 else 3)
    assert openings_of(fleet) == openings, "a flaky provider is not a dead one"
    charged_once(fleet, everybody)
    everybody.bills_agree()


def submitted(stack: Stack, count: int, prompt: str) -> Crowd:
    """Each once, however busy the platform is: who is told to come again does, with the same key."""
    client = stack.client()
    body = {"type": "image", "prompt": prompt, "model": "fast-draft", "cache": "off"}

    def submit(_: int) -> str:
        key = {"Idempotency-Key": uuid.uuid4().hex}
        while True:
            answer = client.post(
                "/v1/jobs", json={**body, "params": {"width": 64, "height": 64}}, headers=key
            )
            if answer.status_code not in (409, 503):
                assert answer.status_code == 202, answer.text
                return str(answer.json()["id"])
            time.sleep(float(answer.headers.get("Retry-After", 1)))

    with ThreadPoolExecutor(4) as clients:
        return Crowd.of(stack, list(clients.map(submit, range(count))))


def all_of(stack: Stack, crowds: list[Crowd]) -> Crowd:
    return Crowd.of(stack, [job for crowd in crowds for job in crowd.ids])


def charged_once(stack: Stack, crowd: Crowd) -> None:
    """Whoever got a picture paid its price, once; nobody else paid anything."""
    rows = stack.sql(
        """
        SELECT j.status, j.cost_usd, count(e.*) FROM jobs_job j
        LEFT JOIN ledger_entry e ON e.reference = j.id AND e.kind IN ('capture', 'charge')
        WHERE j.id = ANY(%s::uuid[]) GROUP BY j.id
        """,
        crowd.ids,
    )
    odd = [
        row
        for row in rows
        if (f"{row[1]:.3f}", row[2]) != (("0.005", 1) if row[0] == "completed" else ("0.000", 0))
    ]
    assert odd == []


def first_order_taken(stack: Stack, since: Any) -> Any:
    """When the provider that was dead first took an order again that it delivered."""
    return stack.sql(
        """
        SELECT min(submitted_at) FROM jobs_attempt
        WHERE provider = %s AND started_at > %s AND ticket IS NOT NULL
        """,
        DEAD,
        since,
    )[0][0]


def calls_to_the_dead(stack: Stack) -> int:
    """What the provider counted while it was dead: orders, polls and pings."""
    summary = httpx.get(f"{stack.simulator_url}/admin/summary", timeout=30).raise_for_status().json()
    return int(summary["calls"]["dead"])


def openings_of(stack: Stack) -> dict[str, int]:
    """How often each breaker for orders and their ends opened."""
    found = {}
    for key in stack.redis.scan_iter("breaker:*"):
        found[key.decode()] = int(json.loads(stack.redis.get(key) or "{}").get("openings", 0))
    return found


def turn(stack: Stack, **knobs: Any) -> None:
    httpx.post(f"{stack.simulator_url}/admin/settings", json=knobs, timeout=30).raise_for_status()


@contextmanager
def more_workers(stack: Stack, folder: Path, count: int) -> Iterator[None]:
    first = processes.named("io", stack.environ)
    more = [_twin(first, f"io-{index}") for index in range(2, count + 2)]
    supervisor = Supervisor(more, environ=stack.environ, logs=folder / "logs", say=lambda *_: None)
    with ExitStack() as cleanup:
        cleanup.callback(supervisor.stop)
        supervisor.start()
        supervisor.wait_ready(240)
        yield
        for process in more:
            supervisor.kill(process.name)


def _twin(process: Process, name: str) -> Process:
    command = tuple(part.replace("io@", f"{name}@") for part in process.command)
    return replace(process, name=name, command=command)

"""A provider that bills wrongly: the user pays the price that was quoted, once, and the comparison with the bill says
which task is wrong by how much, until it is put right."""

from decimal import Decimal

import pytest

from apps.ops import bills, reconcile
from apps.ops.models import Alert
from apps.providers.contract import Ticket
from tests.fakes.simulator import wait_until
from tests.jobs.engine import FREE, Engine

PRICE = Decimal("0.005")


def open_alerts() -> list[str]:
    return [alert.message for alert in Alert.objects.open().filter(kind=reconcile.KIND)]


@pytest.mark.parametrize(
    ("fault", "billed", "reckoned"),
    [
        ("charge-failed*1", "0.005", "0"),
        ("double-charge", "0.010", "0.0050000000"),
        ("cost=3", "0.015", "0.0050000000"),
        ("refund=0", "0", "0.0050000000"),
    ],
)
def test_a_wrong_bill_is_an_alert_until_it_is_put_right(
    engine: Engine, fault: str, billed: str, reckoned: str
) -> None:
    job = engine.finish(engine.submit(f"[fault:{fault}] a fox"))
    assert (job.status, job.cost_usd, engine.hold(job)) == ("completed", PRICE, "captured")
    assert engine.absorbed(job) == FREE
    tasks = [Ticket.from_json(attempt.ticket or "").task_id for attempt in engine.attempts(job)]
    expected = Decimal(billed) + PRICE * (len(tasks) - 1)
    wait_until(lambda: Decimal(engine.simulator.summary()["charged_usd"]) == expected)

    wrongly = bills.from_simulator(engine.simulator.base_url)
    bills.keep("wavespeed", "may", wrongly)
    found = f"wavespeed bills {Decimal(billed):.10f} for task {tasks[0]}, we reckon with {reckoned}"
    assert [difference["detail"] for difference in reconcile.watch()] == [found]
    assert open_alerts() == [found]

    right = dict.fromkeys(tasks[-1:], PRICE)
    lines = [bills.Line(line.task_id, right.get(line.task_id, FREE), line.at) for line in wrongly]
    bills.keep("wavespeed", "may, corrected", lines)
    assert (reconcile.watch(), open_alerts()) == ([], [])
    engine.unbooked_usd = expected - PRICE

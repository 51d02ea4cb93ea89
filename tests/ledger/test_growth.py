"""What is asked of the ledger costs the same however much was booked: as many statements, about as many pages read."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts import caller
from apps.core import clock
from apps.ops import reconcile
from tests import factories
from tests.factories import Someone
from tests.ledger import many

pytestmark = pytest.mark.django_db
FEW, MANY = 1_000, 100_000
# What the bar allows.
RATIO = 1.5

MONTH = {"from": f"{(clock.now() - timedelta(days=28)).date()}"}
ASKED: list[tuple[str, dict[str, str]]] = [
    ("/v1/budget", {}),
    ("/v1/usage", MONTH),
    ("/v1/usage", {**MONTH, "group_by": "model"}),
    ("/v1/usage", {**MONTH, "group_by": "user", "scope": "team"}),
    ("/v1/usage/entries", {}),
    ("/v1/usage/entries", {"scope": "team"}),
    ("/v1/usage/entries", {"kind": "refund"}),
    ("/v1/usage/entries", {"to": f"{clock.now() - timedelta(days=14):%Y-%m-%dT%H:%M:%SZ}"}),
]


def cost(someone: Someone, path: str, query: dict[str, str]) -> tuple[int, int]:
    """Statements, and pages of 8 kB that Postgres read for them."""
    with CaptureQueriesContext(connection) as captured:
        response = someone.api.get(path, query)
    assert response.status_code == 200, response.content
    statements = [each["sql"] for each in captured.captured_queries if "ledger_" in each["sql"]]
    return len(captured), sum(_pages(sql) for sql in statements)


def _pages(sql: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {sql}")
        [(plan,)] = cursor.fetchall()
    found: dict[str, Any] = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    return int(found["Shared Hit Blocks"]) + int(found["Shared Read Blocks"])


def spender(count: int) -> Someone:
    """With so many entries, and remembered."""
    someone = factories.someone(is_team_admin=True)
    many.entries(someone.user, count)
    assert someone.budget
    return someone


def test_a_hundred_times_the_entries_cost_about_the_same() -> None:
    caller.forget()
    with clock.frozen(clock.now()):
        # Among others: a table of a few pages is read whole.
        small = [spender(FEW) for _ in range(4)][-1]
        assert reconcile.differences() == []
        before = [cost(small, *asked) for asked in ASKED]
        large = spender(MANY)
        after = [cost(large, *asked) for asked in ASKED]
        beside = [cost(small, *asked) for asked in ASKED]
        assert large.api.get("/v1/usage", MONTH).json()["total"]["jobs"] == MANY // 2
        assert len(large.api.get("/v1/usage/entries").json()["data"]) == 50
    for asked, few, lots, again in zip(ASKED, before, after, beside, strict=True):
        assert lots[0] == again[0] == few[0], asked
        # A page of slack: an index that is one level deeper.
        assert max(lots[1], again[1]) <= few[1] * RATIO + 1, (asked, few, lots, again)

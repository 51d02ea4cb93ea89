"""Thousands of random operations on one cache from many threads: nothing wrong is ever served."""

import random
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection

from apps.caching import keys, store
from apps.core import clock, rows
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

OPERATIONS, THREADS = 10_000, 8
PROMPTS = [
    ("two cats", "2 cats"),
    ("a red car and a blue boat", "a blue boat and a red car"),
    ("a fox", "the fox"),
]


class Model:
    """What must hold: who made what, what is buried, and what was purged before it could be asked for again."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made: dict[uuid.UUID, tuple[uuid.UUID, int]] = {}
        # In these only what was surely true before an operation began counts.
        self.buried: set[tuple[uuid.UUID, bytes, uuid.UUID]] = set()
        self.purged: set[uuid.UUID] = set()


def of(prompt: str) -> keys.Keys:
    params = {"width": 64, "seed": 1}
    return keys.of(
        kind="image", model="m", model_version="1", case_sensitive=False, prompt=prompt, params=params
    )


def test_no_result_is_served_across_teams_after_its_purge_or_its_tombstone() -> None:
    teams = [factories.team().pk for _ in range(3)]
    known, wrong = Model(), list[str]()

    def keep(draw: random.Random, team: uuid.UUID, picture: int, asked: keys.Keys) -> None:
        source = uuid.uuid4()
        with known.lock:
            known.made[source] = team, picture
        store.keep(
            team_id=team,
            fingerprint=asked.exact,
            canonical=asked.canonical,
            compatibility=asked.compatibility,
            model="m",
            prompt=PROMPTS[picture][0],
            source_id=source,
            outputs=[],
            cost_usd=Decimal(1),
            expires_at=clock.now() + timedelta(hours=1),
        )

    def look(draw: random.Random, team: uuid.UUID, picture: int, asked: keys.Keys) -> None:
        with known.lock:
            buried, purged = set(known.buried), set(known.purged)
        values = {
            "team_id": team, "fingerprint": asked.exact, "also": asked.canonical, "asked": asked.canonical,
            "now": clock.now(),
        }  # fmt: skip
        for _, source, *_ in rows.select(store.LOOKUP, values):
            if known.made[source] != (team, picture):
                wrong.append("another team's, or another picture")
            if (team, asked.canonical, source) in buried:
                wrong.append("buried")
            if source in purged:
                wrong.append("purged")

    def bury(draw: random.Random, team: uuid.UUID, picture: int, asked: keys.Keys) -> None:
        source = draw.choice([*known.made] or [uuid.uuid4()])
        store.bury(team_id=team, asked=asked.canonical, source_id=source)
        with known.lock:
            known.buried.add((team, asked.canonical, source))

    def purge(draw: random.Random, team: uuid.UUID, picture: int, asked: keys.Keys) -> None:
        source = draw.choice([*known.made] or [uuid.uuid4()])
        if store.purge(team_id=team, source_id=source):
            with known.lock:
                known.purged.add(source)

    def some(number: int) -> None:
        draw = random.Random(number)
        try:
            for _ in range(OPERATIONS // THREADS):
                verb: Callable[[random.Random, uuid.UUID, int, keys.Keys], None] = draw.choices(
                    (look, keep, bury, purge), weights=(70, 20, 5, 5)
                )[0]
                picture = draw.randrange(len(PROMPTS))
                verb(draw, draw.choice(teams), picture, of(draw.choice(PROMPTS[picture])))
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as crowd:
        list(crowd.map(some, range(THREADS)))
    assert wrong == []
    assert known.buried
    assert known.purged

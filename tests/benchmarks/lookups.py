"""`python -m tests.benchmarks.lookups [RESULTS] [VECTORS]`: what looking into the cache takes at a million results.

Tiers 1 and 2 are one statement; tier 3 is embedding, search, veto and guard, as a worker calls it. All results are of
one team, which is the worst case. Half of the vectors share one key, as of the most popular model; of the rest each key
has as many as are still sorted exactly. Vectors are random, which is the hardest for HNSW; a tenth of what is asked for
has a look-alike among them.
"""

import argparse
import os
import random
import time
import uuid
from collections.abc import Callable
from typing import Any

from django.db import connection
from rich.console import Console

from tests.benchmarks import cpu, load
from tests.benchmarks.usage import platform

console = Console(soft_wrap=True)
ASKED = 300
_TEXT = "a black cat is sitting in a bathroom sink, number {}"
_LIKE = "the black cat is sitting in the bathroom sink, number {}"

# `i` is the number of a result: its prompt, keys and place follow from it.
_RESULTS = """
INSERT INTO caching_cachedresult
       (id, team_id, fingerprint, canonical, compatibility, model, prompt, source_id, outputs, cost_usd, created_at,
        expires_at)
SELECT md5('result' || i)::uuid, %(team)s, sha256(('exact' || i)::bytea), sha256(('canonical' || i)::bytea),
       sha256(('key' || CASE WHEN i %% 2 = 0 THEN 0 ELSE 1 + i / %(per_key)s END)::bytea), 'standard', 'a cat ' || i,
       md5('source' || i)::uuid, '[]', 1, now(), now() + interval '1 day'
FROM generate_series(1, %(count)s) i
"""
_VECTORS = """
INSERT INTO caching_cachedvector (result_id, team_id, compatibility, embedder, embedding)
SELECT r.id, r.team_id, r.compatibility, %(embedder)s,
       (SELECT array_agg(random() - 0.5) FROM generate_series(1, 384) WHERE r.id IS NOT NULL)::real[]::halfvec
FROM generate_series(1, %(count)s) i JOIN caching_cachedresult r ON r.id = md5('result' || i)::uuid
"""


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tests.benchmarks.lookups", description=__doc__)
    arguments.add_argument("results", nargs="?", type=int, default=1_000_000)
    arguments.add_argument("vectors", nargs="?", type=int, default=1_000_000)
    asked = arguments.parse_args()
    # As its workers are to be started: more threads cost ten times the time and gain nothing.
    os.environ.update(EMBEDDER="minilm", OMP_NUM_THREADS="1")
    with platform() as postgres_pid:
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        team_id = _fill(asked.results, min(asked.vectors, asked.results))
        console.print("| lookup | p50, ms | p95, ms | p99, ms | CPU-ms |\n|---|---|---|---|---|")
        for name, look in _lookups(team_id, asked.results, min(asked.vectors, asked.results)):
            took, cpu_ms = _timed(look, postgres_pid)
            shown = " | ".join(f"{load.percentile(took, share):.1f}" for share in (0.5, 0.95, 0.99))
            console.print(f"| {name} | {shown} | {cpu_ms:.1f} |")


def _fill(results: int, vectors: int) -> uuid.UUID:
    from apps.caching.semantic import index, minilm
    from tests import factories

    team = factories.team()
    values: dict[str, Any] = {"team": team.pk, "count": results, "per_key": 2 * index.CUT_OVER}
    _run("SET statement_timeout = 0", {})
    _run("results", values, _RESULTS)
    _run("vectors, without HNSW", {}, "DROP INDEX vector_by_nearness")
    _run("vectors", {"count": vectors, "embedder": minilm.shared().id}, _VECTORS)
    _plant(team.pk)
    _run("memory to build it in", {}, "SET maintenance_work_mem = '2GB'")
    _run(
        "no helpers: they share memory that a container may not have",
        {},
        "SET max_parallel_maintenance_workers = 0",
    )
    _run(
        "HNSW",
        {},
        "CREATE INDEX vector_by_nearness ON caching_cachedvector USING hnsw (embedding halfvec_cosine_ops)",
    )
    _run("statistics, and nothing left to be vacuumed while it is timed", {}, "VACUUM ANALYZE")
    return team.pk


def _run(what: str, values: dict[str, Any], statement: str = "") -> None:
    began = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute(statement or what, values or None)
    console.print(f"[dim]{what}: {time.monotonic() - began:.0f} s[/dim]")


def _plant(team_id: uuid.UUID) -> None:
    """Results that a tenth of the questions look like, where half of the vectors are."""
    from apps.caching.semantic import index, minilm

    for number in range(ASKED // 10):
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE caching_cachedresult SET prompt = %s WHERE id = md5('result' || %s)::uuid RETURNING source_id",
                [_TEXT.format(number), 2 * (number + 1)],
            )
            source_id = cursor.fetchone()[0]
        (vector,) = minilm.shared().embed([_TEXT.format(number)])
        index.put(team_id=team_id, source_id=source_id, embedder=minilm.shared().id, vector=vector)


def _lookups(team_id: uuid.UUID, results: int, vectors: int) -> list[tuple[str, Callable[[int], None]]]:
    from apps.caching import store
    from apps.caching.semantic import lookup
    from apps.core import clock, rows

    draw = random.Random(1)
    places = [draw.randrange(1, results + 1) for _ in range(ASKED)]
    keys = _keys(["key0", f"key{1 + vectors // 4 // 6000}"])

    def statement(exact: str, canonical: str) -> Callable[[int], None]:
        def look(number: int) -> None:
            one, other = _keys([f"{exact}{places[number]}", f"{canonical}{places[number]}"])
            values = {
                "team_id": team_id, "fingerprint": one, "also": other, "asked": other, "now": clock.now()
            }  # fmt: skip
            found = rows.select(store.LOOKUP, values)
            assert bool(found) == (exact == "exact" or canonical == "canonical")

        return look

    def near(key: bytes, planted: int) -> Callable[[int], None]:
        def look(number: int) -> None:
            found = lookup.find(
                team_id=team_id,
                compatibility=key,
                asked=b"",
                prompt=_LIKE.format(number % (10 * planted or ASKED)),
            )
            assert (found is not None) == (number % (10 * planted or ASKED) < planted), number

        return look

    return [
        ("tier 1, a hit", statement("exact", "other")),
        ("tier 2, a hit", statement("other", "canonical")),
        ("tiers 1 and 2, a miss", statement("other", "other")),
        (f"tier 3 among {vectors // 2:,} (HNSW)", near(keys[0], ASKED // 10)),
        ("tier 3 among 3,000 (exact)", near(keys[1], 0)),
    ]


def _keys(words: list[str]) -> list[bytes]:
    import hashlib

    return [hashlib.sha256(word.encode()).digest() for word in words]


def _timed(look: Callable[[int], None], postgres_pid: int) -> tuple[list[float], float]:
    """Milliseconds of each, after a few to warm up; and the CPU time of one, of this process and Postgres, which is
    what counts on a machine that has other work."""
    for number in range(20):
        look(number)
    took = []
    before = cpu.used_ms([postgres_pid]) + time.process_time() * 1000
    for number in range(ASKED):
        began = time.perf_counter()
        look(number)
        took.append((time.perf_counter() - began) * 1000)
    used = cpu.used_ms([postgres_pid]) + time.process_time() * 1000 - before
    return took, used / ASKED


if __name__ == "__main__":
    main()

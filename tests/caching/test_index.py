"""The index of prompts: what is nearest is found, whether few or many candidates share a key."""

import hashlib
import json
import random
import uuid
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection

from apps.caching.models import CachedResult, CachedVector
from apps.caching.semantic import index
from apps.core import clock
from apps.core.ids import uuid7
from tests import factories

EMBEDDER = "test@1"
# How many candidates share a key, from a rare request to a popular one.
SIZES = (1, 3, 10, 30, 100, 300, 600)
_ASK = 20


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def vector(draw: random.Random) -> list[float]:
    values = [draw.gauss(0, 1) for _ in range(384)]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


def near(draw: random.Random, centre: list[float]) -> list[float]:
    """At a cosine of about 0.95."""
    values = [value + draw.gauss(0, 0.3 / 384**0.5) for value in centre]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


def fill(team_id: uuid.UUID, compatibility: bytes, vectors: list[list[float]]) -> list[uuid.UUID]:
    """Results with these vectors; the ids of their purchases."""
    at, expires_at = clock.now(), clock.now() + timedelta(days=1)
    sources = [uuid.uuid4() for _ in vectors]
    results = CachedResult.objects.bulk_create(
        CachedResult(
            id=uuid7(),
            team_id=team_id,
            fingerprint=source.bytes * 2,
            canonical=source.bytes * 2,
            compatibility=compatibility,
            model="standard",
            prompt="a fox",
            source_id=source,
            outputs=[],
            cost_usd=Decimal(1),
            created_at=at,
            expires_at=expires_at,
        )
        for source in sources
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO caching_cachedvector (result_id, team_id, compatibility, embedder, embedding)"
            " VALUES (%s, %s, %s, %s, %s::halfvec)",
            [
                (result.pk, team_id, compatibility, EMBEDDER, json.dumps(values))
                for result, values in zip(results, vectors, strict=True)
            ],
        )
    return sources


def nearest(
    team_id: uuid.UUID, compatibility: bytes, asked: list[float], floor: float = 0.5
) -> list[uuid.UUID]:
    found = index.nearest(
        team_id=team_id,
        compatibility=compatibility,
        asked=b"",
        embedder=EMBEDDER,
        vector=asked,
        floor=floor,
    )
    return [candidate.source_id for candidate in found]


@pytest.mark.django_db
def test_the_nearest_is_found_for_keys_of_every_size() -> None:
    draw, team = random.Random(5), factories.team()
    kept = {size: [vector(draw) for _ in range(size)] for size in SIZES}
    sources = {size: fill(team.pk, key(size), vectors) for size, vectors in kept.items()}
    for size in SIZES:
        asked = [draw.randrange(size) for _ in range(min(size, _ASK))]
        right = sum(
            nearest(team.pk, key(size), near(draw, kept[size][i]))[:1] == [sources[size][i]] for i in asked
        )
        assert right / len(asked) >= 0.99, size


@pytest.mark.django_db
def test_the_nearest_is_found_by_hnsw_among_many_of_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, team = random.Random(7), factories.team()
    fill(team.pk, key(0), [vector(draw) for _ in range(600)])
    rare = [vector(draw) for _ in range(30)]
    sources = fill(team.pk, key(1), rare)
    monkeypatch.setattr(index, "_COUNT", "SELECT 1000000")
    right = sum(nearest(team.pk, key(1), near(draw, rare[i]))[:1] == [sources[i]] for i in range(30))
    assert right == 30


@pytest.mark.django_db
def test_other_teams_keys_and_embedders_are_never_neighbours() -> None:
    draw, team = random.Random(9), factories.team()
    [source], values = fill(team.pk, key(1), [one := vector(draw)]), one
    assert nearest(team.pk, key(1), values) == [source]
    assert nearest(factories.team().pk, key(1), values) == []
    assert nearest(team.pk, key(2), values) == []
    CachedVector.objects.update(embedder="another@1")
    assert nearest(team.pk, key(1), values) == []


@pytest.mark.django_db
def test_what_has_expired_or_lies_further_off_is_no_neighbour() -> None:
    draw, team = random.Random(11), factories.team()
    kept = vector(draw)
    fill(team.pk, key(1), [kept])
    assert nearest(team.pk, key(1), vector(draw)) == []
    CachedResult.objects.update(expires_at=clock.now())
    assert nearest(team.pk, key(1), kept) == []

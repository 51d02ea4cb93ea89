"""What the hot path's own way to the database rests on."""

import pytest
from psycopg import _queries

from apps.core import rows


@pytest.mark.django_db
def test_the_placeholders_of_a_long_statement_are_read_once() -> None:
    """psycopg alone would read them anew each time: beyond 4 kB, and beyond 50 of them."""
    values = {f"value_{number}": str(number) for number in range(150)}
    statement = f"SELECT {', '.join(f'%({name})s::text' for name in values)} -- {'long ' * 1000}"
    assert rows.select(statement, values) == [tuple(values.values())]
    misses = _queries._query2pg.cache_info().misses
    assert rows.select(statement, values) == [tuple(values.values())]
    assert _queries._query2pg.cache_info().misses == misses

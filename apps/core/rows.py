"""Writing rows without the ORM's general path, which costs more than the query: for the hot path only."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections, models


def insert(row: models.Model) -> None:
    """One INSERT of every column. No signals, no parents, nothing read back. Raises IntegrityError."""
    statement = _statement(type(row))
    # Not Django's proxy for it, which looks itself up in the thread's storage several times for each field.
    database = connections[DEFAULT_DB_ALIAS]
    values = [
        field.get_db_prep_save(getattr(row, field.attname), database) for field in row._meta.concrete_fields
    ]
    with database.cursor() as cursor:
        cursor.execute(statement, values)
    row._state.adding, row._state.db = False, database.alias


def execute(statement: str, values: Mapping[str, Any]) -> int:
    """Runs a constant statement; how many rows it wrote."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)


@cache
def _statement(model: type[models.Model]) -> str:
    quote = connection.ops.quote_name
    columns = [quote(str(field.column)) for field in model._meta.concrete_fields]
    places = ", ".join(["%s"] * len(columns))
    return f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608

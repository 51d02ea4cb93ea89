"""Rows without the ORM's general path, which costs more than the query: for the hot path only."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection, connections, models
from django.db.models.base import ModelState

Row = TypeVar("Row", bound=models.Model)


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


def select(statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Runs a constant statement; the rows it gives."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def columns(model: type[models.Model], of: str) -> str:
    """Every column of `model`, of the table known as `of`, in the order that `make` reads them."""
    return ", ".join(f'{of}."{field.column}"' for field in model._meta.concrete_fields)


def make(model: type[Row], values: Sequence[Any]) -> Row:
    """The row of `model` whose columns have these values, as read from the database. No signals."""
    row = model.__new__(model)
    row._state = ModelState()
    row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS
    for (name, convert), value in zip(_fields(model), values, strict=True):
        row.__dict__[name] = convert(value) if convert and value is not None else value
    return row


@cache
def _fields(model: type[models.Model]) -> list[tuple[str, Callable[[Any], Any] | None]]:
    """The attribute of each column, and how its value is read where the driver does not do it (JSON)."""
    return [(field.attname, _reader(field)) for field in model._meta.concrete_fields]


def _reader(field: "models.Field[Any, Any]") -> Callable[[Any], Any] | None:
    return json.loads if isinstance(field, models.JSONField) else None


@cache
def _statement(model: type[models.Model]) -> str:
    quote = connection.ops.quote_name
    columns = [quote(str(field.column)) for field in model._meta.concrete_fields]
    places = ", ".join(["%s"] * len(columns))
    return f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608

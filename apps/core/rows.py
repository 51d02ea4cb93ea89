"""Rows without the ORM's general path, which costs more than the query: for the hot path only."""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from functools import cache
from typing import IO, Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection, connections, models, transaction
from django.db.models.base import ModelState
from psycopg import _queries, sql

Row = TypeVar("Row", bound=models.Model)
_CHUNK = 65_536
# psycopg reads the placeholders of a statement anew each time if it is longer than 4 kB or has more than 50 of them,
# which costs as much as sending it. Ours are few, and constant.
_queries.MAX_CACHED_STATEMENT_LENGTH, _queries.MAX_CACHED_STATEMENT_PARAMS = 20_000, 200
# What has a meaning of its own in a line of COPY.
_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def insert(row: models.Model) -> None:
    """One INSERT of every column. No signals, no parents, nothing read back. Raises IntegrityError."""
    execute(_insert(type(row)), values(row))
    stored(row)


def inserting(
    model: type[models.Model], *, instead: Mapping[str, str], when: str = "", fresh: Collection[str] = ()
) -> str:
    """The text of an INSERT of every column, up to its FROM: the values of a row (`values`), but these expressions
    `instead`, by attribute; given a condition `when`, only where it holds.

    `fresh`: attributes that have their default in every such row. They are no parameters: each of those costs the
    driver and Postgres a hundredth of what the statement costs.
    """
    fields = model._meta.concrete_fields
    names = ", ".join(f'"{field.column}"' for field in fields)
    own = {
        field.attname: f"{_default(field) if field.attname in fresh else f'%({field.attname})s'}::{_type(field)}"
        for field in fields
    }
    chosen = {
        name: f"CASE WHEN {when} THEN {other} ELSE {own[name]} END" if when else other
        for name, other in instead.items()
    }
    return f'INSERT INTO "{model._meta.db_table}" ({names}) SELECT {", ".join((own | chosen).values())}'


def stored(row: models.Model) -> None:
    """The row is in the database: another statement than `insert` put it there."""
    row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS


def alone() -> AbstractContextManager[None]:
    """Around one statement, which is a transaction of its own and needs no other; within one, its refusal leaves that
    one usable."""
    return transaction.atomic() if connection.in_atomic_block else nullcontext()


def values(row: models.Model) -> dict[str, Any]:
    """By attribute: what the driver is given. It knows all our types but JSON."""
    given = row.__dict__
    return {
        name: _json(given[name]) if read and given[name] is not None else given[name]
        for name, read in _fields(type(row))
    }


def line(row: models.Model) -> bytes:
    """The row as a line of COPY's text format (PostgreSQL's manual, COPY, "File Formats"), every column in order."""
    return "\t".join(map(_cell, values(row).values())).encode() + b"\n"


def copy(model: type[models.Model], lines: IO[bytes], *, into: str = "") -> None:
    """Stores the `lines` of rows of `model`, read piece by piece, `into` its table or another one of its columns."""
    names = ", ".join(f'"{field.column}"' for field in model._meta.concrete_fields)
    statement = f'COPY "{into or model._meta.db_table}" ({names}) FROM STDIN'
    with connection.cursor() as cursor, cursor.copy(statement) as target:
        while piece := lines.read(_CHUNK):
            target.write(piece)


def let_go() -> None:
    """Gives the connection back to the pool for a wait that is not the database's, unless a transaction is open."""
    if not connection.in_atomic_block:
        connection.close()


def execute(statement: str, values: Mapping[str, Any]) -> int:
    """Runs a constant statement; how many rows it wrote."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)


def select(statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Runs a constant statement; the rows it gives."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def columns(model: type[models.Model], of: str, only: tuple[str, ...] = ()) -> str:
    """Every column of `model`, or `only` those of these attributes, of the table known as `of`, in the order that
    `make` reads them."""
    return ", ".join(f'{of}."{field.column}"' for field in _concrete(model, only))


def new(model: type[Row], /, **values: Any) -> Row:
    """An unsaved row with these `values` by attribute (`team_id`, not `team`), and the defaults of the others."""
    row = model.__new__(model)
    row._state = ModelState()
    row.__dict__ |= {name: default() for name, default in _defaults(model) if name not in values} | values
    return row


def make(model: type[Row], values: Sequence[Any], only: tuple[str, ...] = ()) -> Row:
    """The row of `model` whose columns have these values, as read from the database. No signals. Asked for another
    attribute than `only` these, it reads that one from the database, as the ORM's deferred ones."""
    row = model.__new__(model)
    row._state = ModelState()
    row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS
    for (name, convert), value in zip(_fields(model, only), values, strict=True):
        row.__dict__[name] = convert(value) if convert and value is not None else value
    return row


@cache
def _defaults(model: type[models.Model]) -> list[tuple[str, Callable[[], Any]]]:
    return [(field.attname, field.get_default) for field in model._meta.concrete_fields]


@cache
def _fields(
    model: type[models.Model], only: tuple[str, ...] = ()
) -> list[tuple[str, Callable[[Any], Any] | None]]:
    """The attribute of each column, and how its value is read where the driver does not do it (JSON)."""
    return [(field.attname, _reader(field)) for field in _concrete(model, only)]


def _concrete(model: type[models.Model], only: tuple[str, ...]) -> "list[models.Field[Any, Any]]":
    return [field for field in model._meta.concrete_fields if not only or field.attname in only]


def _reader(field: "models.Field[Any, Any]") -> Callable[[Any], Any] | None:
    return json.loads if isinstance(field, models.JSONField) else None


def _json(value: Any) -> str:
    """Most JSON columns of most rows are empty."""
    return json.dumps(value) if value or not isinstance(value, dict | list) else repr(value)


def _cell(value: Any) -> str:
    if value is None:
        return r"\N"
    if isinstance(value, str):
        return str(value).translate(_ESCAPES) if _SPECIAL.search(value) else str(value)
    if isinstance(value, bytes):
        return rf"\\x{value.hex()}"
    return value.isoformat() if isinstance(value, date) else str(value)


@cache
def _insert(model: type[models.Model]) -> str:
    fields = model._meta.concrete_fields
    names = ", ".join(f'"{field.column}"' for field in fields)
    places = ", ".join(f"%({field.attname})s" for field in fields)
    return f'INSERT INTO "{model._meta.db_table}" ({names}) VALUES ({places})'  # noqa: S608


def _default(field: "models.Field[Any, Any]") -> str:
    value = field.get_default()
    return sql.Literal(
        _json(value) if isinstance(field, models.JSONField) and value is not None else value
    ).as_string()


def _type(field: "models.Field[Any, Any]") -> str:
    return str(field.db_type(connections[DEFAULT_DB_ALIAS]))

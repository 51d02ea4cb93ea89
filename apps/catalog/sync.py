"""Brings the database to a catalog file: adds and changes, never deletes, and leaves what ops edited."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import DecimalField

from apps.catalog import snapshot
from apps.catalog.models import GenerationModel, Kept, Price, Route

FILE = Path(__file__).with_name("catalog.yaml")
_ONE_AT_A_TIME = 0x636174616C6F67  # "catalog": the advisory lock of a sync


class CatalogFileError(ValueError):
    """The file does not describe a catalog; nothing was changed."""


def sync(path: Path = FILE, *, dry_run: bool = False) -> list[str]:
    """Applies the file in one transaction; what changed, a line each. Raises CatalogFileError.

    `dry_run`: says the same and changes nothing.
    """
    try:
        entries = yaml.safe_load(path.read_text())["models"].items()
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ONE_AT_A_TIME])
            changes = [line for slug, entry in entries for line in _model(slug, entry)]
            transaction.set_rollback(dry_run)
    except CatalogFileError:
        raise
    except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise CatalogFileError(f"{path} could not be read: {error!r}") from error
    except ValidationError as error:
        raise CatalogFileError(f"{path}: {error}") from error
    snapshot.forget()
    return changes


def _model(slug: str, entry: Mapping[str, Any]) -> Iterator[str]:
    values = dict(entry)
    routes = values.pop("routes")
    if successor := values.pop("successor", None):
        values["successor_id"] = successor
    row = GenerationModel.objects.filter(slug=slug).first() or GenerationModel(slug=slug)
    yield from _apply(row, values, label=f"model {slug}")
    for position, route in enumerate(routes):
        yield from _route(row, position, route)


def _route(model: GenerationModel, position: int, entry: Mapping[str, Any]) -> Iterator[str]:
    values = {"position": position, **entry}
    price = values.pop("price")
    name = {"model": model, "provider": entry["provider"], "provider_model": entry["provider_model"]}
    row = Route.objects.filter(**name).first() or Route(**name)
    label = f"route {model.slug} via {row.provider} ({row.provider_model})"
    yield from _apply(row, values, label=label)
    yield from _price(row, price, label=label)


def _price(route: Route, entry: Mapping[str, Any], *, label: str) -> Iterator[str]:
    """A price is never changed: another one is a new version, in force at once."""
    defaults = {"multipliers": {}, "prompt_token_usd": "0", "batch_discount": "0"}
    values = _decimals(Price, {**defaults, **entry}, label=label)
    last = Price.objects.filter(route=route).order_by("-version").first()
    # That the list was looked at again, on another day, is no new price.
    if last and all(getattr(last, name) == value for name, value in values.items() if name != "priced_on"):
        return
    if last and not last.managed:
        yield f"kept the price of {label}: {last} was set in the admin"
        return
    row = Price(route=route, version=last.version + 1 if last else 1, **values)
    row.full_clean()
    row.save(force_insert=True)
    yield f"price of {label}: {row}"


def _apply(row: Kept, values: Mapping[str, Any], *, label: str) -> Iterator[str]:
    values = _decimals(type(row), values, label=label)
    known = {field.attname for field in row._meta.concrete_fields} - {"id", "slug", "managed"}
    if unknown := set(values) - known:
        raise CatalogFileError(f"{label}: unknown {', '.join(sorted(unknown))}")
    new = row._state.adding
    changed = {name: value for name, value in values.items() if new or getattr(row, name) != value}
    if not changed:
        return
    if not row.managed:
        yield f"kept {label}: it was edited in the admin ({', '.join(changed)} differ)"
        return
    before = {name: getattr(row, name) for name in changed}
    for name, value in changed.items():
        setattr(row, name, value)
    row.full_clean(exclude=["successor"])
    row.save(force_insert=new)
    yield (
        f"new {label}"
        if new
        else f"{label}: "
        + ", ".join(f"{name} {before[name]!r} → {value!r}" for name, value in changed.items())
    )


def _decimals(row: type[Kept], values: Mapping[str, Any], *, label: str) -> dict[str, Any]:
    """What goes into decimal columns is written as a string, for YAML reads a number as a float."""
    columns = {field.attname for field in row._meta.concrete_fields if isinstance(field, DecimalField)}
    for name in columns & set(values):
        if not isinstance(values[name], str):
            raise CatalogFileError(f"{label}: write {name} as a string, money is never a float")
    return {name: Decimal(value) if name in columns else value for name, value in values.items()}

"""Which standard an output has to reach, by model and team; an edit in the admin holds within seconds."""

import uuid
from dataclasses import replace
from typing import Any, Final

from apps.core.remembered import Remembered
from apps.validation.checks.results import DEFAULT, Standard
from apps.validation.models import QualityStandard

_THRESHOLDS: Final = ("min_technical", "min_alignment", "max_unsafe")
_LISTS: Final = ("required", "shadow")


def of(*, model: str, team_id: uuid.UUID) -> Standard:
    """The narrowest word on each point: of the model for the team, of the team, of the model, of all."""
    rows, standard = _rows(), DEFAULT
    for scope in (("", None), (model, None), ("", team_id), (model, team_id)):
        if row := rows.get(scope):
            standard = replace(standard, **_said(row))
    return standard


def _said(row: QualityStandard) -> dict[str, Any]:
    numbers = {name: getattr(row, name) for name in _THRESHOLDS}
    lists = {name: getattr(row, name) for name in _LISTS}
    said = {**numbers, **{name: frozenset(value) for name, value in lists.items() if value is not None}}
    return {name: value for name, value in said.items() if value is not None}


def _read() -> dict[tuple[str, uuid.UUID | None], QualityStandard]:
    return {(row.model, row.team_id): row for row in QualityStandard.objects.all()}


_rows = Remembered(_read)
forget = _rows.forget

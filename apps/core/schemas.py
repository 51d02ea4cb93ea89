"""The shapes that every room's answers share, for the OpenAPI document."""

from pydantic import BaseModel


class FieldError(BaseModel):
    field: str
    message: str
    code: str


class Problem(BaseModel):
    """RFC 9457. Branch on `code`; the codes are listed in the reference."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    retryable: bool
    errors: list[FieldError] | None = None


def problems(*statuses: int) -> dict[tuple[int, str], type[Problem]]:
    """The refusals a view may answer: these, and 401 and 429, which every view with a key may."""
    return {(status, "application/problem+json"): Problem for status in (401, 429, *statuses)}

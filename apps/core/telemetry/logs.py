"""What log lines say of whom and what they are about, and what is taken out of them before they are written."""

import re
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog
from django.http import HttpRequest, HttpResponse

# Postgres quotes the whole row that a constraint refused, over as many lines as its texts have.
_DETAIL: Final = re.compile(
    r"^DETAIL:.*?(?=^Traceback |^The above exception|^During handling|\Z)", re.M | re.S
)


def without_rows(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For structlog, after the traceback was formatted: errors of Postgres without the values that they quote."""
    for name in ("exception", "event"):
        if isinstance(text := event.get(name), str):
            event[name] = _without_detail(text)
    return event


def strip_rows(error: BaseException | None) -> None:
    """Takes the same out of an error and of those that it came of, before somebody else writes them down."""
    while error:
        error.args = tuple(_without_detail(arg) if isinstance(arg, str) else arg for arg in error.args)
        error = error.__cause__ or error.__context__


def _without_detail(text: str) -> str:
    return _DETAIL.sub("DETAIL: left out\n", text) if "DETAIL:" in text else text


def about(**ids: Any) -> None:
    """Every line of the rest of this request says so."""
    structlog.contextvars.bind_contextvars(**{name: str(value) for name, value in ids.items()})


def of_one_request(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware, the outermost: a thread serves many, and what was said of one is not said of the next."""

    def handle(request: HttpRequest) -> HttpResponse:
        try:
            return get_response(request)
        finally:
            structlog.contextvars.clear_contextvars()

    return handle

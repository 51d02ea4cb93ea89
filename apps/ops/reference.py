"""The page that the `type` of a problem document points to: every error code of the API, from the classes."""

from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from apps.core.errors import DomainError


@require_safe
def errors(request: HttpRequest) -> HttpResponse:
    """`#code` is the anchor of each. docs/reference/errors.md says more."""
    rows = [
        {"code": error.code, "status": error.status, "retryable": error.retryable, "title": error.title}
        for error in sorted(refusals(), key=lambda error: error.code)
    ]
    return render(request, "ops/errors.html", {"errors": rows})


def refusals(base: type[DomainError] = DomainError) -> Iterator[type[DomainError]]:
    """Every error with a code of its own. All rooms are loaded once the URL table is."""
    for error in base.__subclasses__():
        if "code" in vars(error):
            yield error
        yield from refusals(error)

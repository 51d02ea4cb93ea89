"""Every error of the API in one shape: problem+json (RFC 9457) with a stable `code`."""

import math
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from rest_framework import exceptions as drf
from rest_framework.response import Response
from rest_framework.views import set_rollback

from apps.core import errors

log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"


def problem(error: errors.DomainError) -> dict[str, Any]:
    """The problem document of an error."""
    return {
        "type": f"/v1/docs/errors#{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "retryable": error.retryable,
        **error.extra,
    }


def handle(exc: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER. None (a plain 500) for what nobody foresaw."""
    error = _translate(exc)
    if error is None:
        return None
    set_rollback()
    response = Response(problem(error), status=error.status, content_type=MEDIA_TYPE)
    for name, value in _headers(error).items():
        response[name] = value
    return response


def respond(error: errors.DomainError) -> HttpResponse:
    """The same answer for views that are not DRF's."""
    return JsonResponse(problem(error), status=error.status, content_type=MEDIA_TYPE, headers=_headers(error))


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return respond(errors.NotFound("No such page or resource."))


def server_error(request: HttpRequest) -> HttpResponse:
    return respond(InternalError("Something went wrong on our side; it has been logged."))


class InternalError(errors.DomainError):
    code, status, title, retryable = "internal_error", 500, "Something went wrong on our side", True


def _headers(error: errors.DomainError) -> dict[str, str]:
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="genplatform"'
    return headers


def _translate(exc: Exception) -> errors.DomainError | None:
    match exc:
        case errors.DomainError():
            return exc
        case drf.Throttled():
            wait_s = getattr(exc, "wait", None) or 1  # set by DRF, unknown to its stubs
            return errors.RateLimited("Slow down.", retry_after_s=max(1, math.ceil(wait_s)))
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            return errors.NotAuthenticated("Send `Authorization: Bearer gp_…`.")
        case drf.PermissionDenied() | DjangoPermissionDenied():
            return errors.PermissionDenied("This key may not do that.")
        case drf.NotFound() | Http404():
            return errors.NotFound("There is no such thing here.")
        case drf.MethodNotAllowed():
            return errors.MethodNotAllowed(str(exc.detail))
        case drf.NotAcceptable():
            return errors.NotAcceptable("The API answers application/json.")
        case drf.UnsupportedMediaType():
            return errors.UnsupportedMediaType("Send the body as application/json.")
        case drf.ParseError():
            return errors.MalformedRequest(str(exc.detail))
        case RequestDataTooBig():
            return errors.RequestTooLarge("The body is larger than this API accepts.")
        case OperationalError() | InterfaceError():
            log.error("database.unavailable", error=type(exc).__name__)
            return errors.ServiceUnavailable("The database is away for a moment.", retry_after_s=2)
        case _:
            return None

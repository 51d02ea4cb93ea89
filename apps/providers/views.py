"""The door that providers knock on."""

import uuid

import structlog
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from apps.providers import inbox
from apps.providers.errors import UnknownProvider, WebhookRejected

log = structlog.get_logger(__name__)


@csrf_exempt
@require_POST
def webhook(request: HttpRequest, provider: str, attempt_id: uuid.UUID) -> JsonResponse:
    """200 once the event is stored, however often it comes; the provider is told nothing else."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        inbox.take(provider, attempt_id, request.body, headers)
    except RequestDataTooBig:
        return _problem(413, "request_too_large")
    except UnknownProvider:
        return _problem(404, "not_found")
    except WebhookRejected as error:
        log.warning("inbox.rejected", provider=provider, reason=str(error))
        return _problem(401, "not_authenticated")
    return JsonResponse({})


def _problem(status: int, code: str) -> JsonResponse:
    """Problem details (RFC 9457) without a word about what was wrong with a forgery."""
    return JsonResponse(
        {"status": status, "code": code}, status=status, content_type="application/problem+json"
    )

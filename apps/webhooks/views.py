"""The API over a team's webhooks."""

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts import caller
from apps.accounts.models import ApiKey, Team
from apps.core import inputs
from apps.core.errors import NotFound, PermissionDenied
from apps.core.schemas import problems
from apps.webhooks import endpoints, schemas, signing
from apps.webhooks.models import Endpoint

_SCOPE = ApiKey.Scope.WEBHOOKS.value


class Endpoints(APIView):
    """The addresses that are told of your team's events; for team admins."""

    scopes = {"GET": _SCOPE, "POST": _SCOPE}

    @extend_schema(
        summary="List your endpoints",
        operation_id="webhook_endpoints_list",
        responses={200: schemas.Endpoints, **problems(403)},
    )
    def get(self, request: Request) -> Response:
        found = Endpoint.objects.filter(team_id=_admin(request).team_id).order_by("id")
        return Response({"data": [_document(endpoint) for endpoint in found]})

    @extend_schema(
        summary="Add an endpoint",
        request=schemas.EndpointRequest,
        responses={201: schemas.Endpoint, **problems(400, 403, 413, 415, 422)},
    )
    def post(self, request: Request) -> Response:
        admin = _admin(request)
        asked = inputs.parse(schemas.EndpointRequest, inputs.body(request))
        endpoint = endpoints.add(
            admin.team_id, url=asked.url, event_types=[kind.value for kind in asked.event_types]
        )
        location = {"Location": f"/v1/webhooks/endpoints/{endpoint.pk}"}
        return Response(_document(endpoint), status=201, headers=location)


class EndpointDetail(APIView):
    """One address."""

    scopes = {"DELETE": _SCOPE}

    @extend_schema(summary="Remove an endpoint", request=None, responses={204: None, **problems(403, 404)})
    def delete(self, request: Request, endpoint_id: uuid.UUID) -> Response:
        if not endpoints.remove(_admin(request).team_id, endpoint_id):
            raise NotFound("There is no such endpoint.")
        return Response(status=204)


class WebhookSecret(APIView):
    """The secret that signs this team's webhooks (Standard Webhooks)."""

    scopes = {"GET": ApiKey.Scope.JOBS_WRITE.value}

    @extend_schema(
        summary="Get the secret that signs webhooks", responses={200: schemas.WebhookSecret, **problems()}
    )
    def get(self, request: Request) -> Response:
        team = Team.objects.get(pk=caller.required(request).team_id)
        return Response({"key": signing.secret_for(team.pk, team.webhook_secret_version)})


def _admin(request: Request) -> caller.Caller:
    asker = caller.required(request)
    if not asker.is_team_admin:
        raise PermissionDenied("Only a team's admins choose where its webhooks go.")
    return asker


def _document(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": str(endpoint.pk),
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "active": endpoint.active,
        "created_at": endpoint.created_at,
    }

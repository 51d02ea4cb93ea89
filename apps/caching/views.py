"""The API over a team's cache."""

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts import caller
from apps.caching import schemas, store
from apps.core import inputs
from apps.core.errors import PermissionDenied
from apps.core.schemas import problems


class Purge(APIView):
    """Forget cached results, at once: a job's, a model's, a prompt's (erasure), or all of your team's. For team
    admins. The jobs and their artifacts stay."""

    scopes = {"POST": "jobs:write"}

    @extend_schema(
        summary="Forget cached results",
        request=schemas.PurgeRequest,
        responses={200: schemas.Purged, **problems(400, 403, 411, 413, 415, 422)},
    )
    def post(self, request: Request) -> Response:
        asker = caller.required(request)
        if not asker.is_team_admin:
            raise PermissionDenied("Only a team's admins purge its cache.")
        asked = inputs.parse(schemas.PurgeRequest, inputs.body(request))
        count = store.purge(
            team_id=asker.team_id,
            source_id=uuid.UUID(asked.job_id) if asked.job_id else None,
            model=asked.model,
            prompt=asked.prompt,
        )
        return Response({"purged": count})

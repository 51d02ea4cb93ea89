"""`Authorization: Bearer gp_…` (RFC 6750, header only)."""

import uuid

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from apps.accounts import caller, keys
from apps.core.errors import NotAuthenticated
from apps.core.telemetry import logs

CHALLENGE = 'Bearer realm="genplatform"'


class ApiKeyAuthentication(BaseAuthentication):
    """`request.user` becomes a `Caller`, `request.auth` the key's id; without a header nobody is asked.

    Everything wrong with a key gives the same answer: which of unknown, revoked, expired or inactive it is
    would help a thief only.
    """

    def authenticate(self, request: Request) -> tuple[caller.Caller, uuid.UUID] | None:
        if keys.contains_key(request.META.get("QUERY_STRING", "")):
            raise NotAuthenticated("A key in the URL ends up in logs: send it as 'Authorization: Bearer …'")
        header = request.META.get("HTTP_AUTHORIZATION")
        if header is None:
            return None
        found = _caller(header)
        logs.about(team_id=found.team_id)
        return found, found.key_id

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


def _caller(header: str) -> caller.Caller:
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise NotAuthenticated("Send the key as 'Authorization: Bearer gp_…'")
    # Two Authorization headers arrive joined by a comma, which is in no key: we do not guess between them.
    digest = keys.parse(token.strip(" "))
    found = caller.find(digest) if digest else None
    if found is None:
        raise NotAuthenticated("The API key is not valid")
    return found

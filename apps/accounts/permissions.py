"""What a key may do: views declare the scope of each method, and what is not declared is denied."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.accounts import caller
from apps.core.errors import NotAuthenticated, PermissionDenied

if TYPE_CHECKING:  # rest_framework.views itself imports this module, by the settings
    from rest_framework.views import APIView


class HasScope(BasePermission):
    """Reads `scopes = {"GET": "jobs:read", "POST": "jobs:write"}` of the view (HEAD counts as GET)."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        asker = caller.of(request)
        if asker is None:
            raise NotAuthenticated("Send an API key as 'Authorization: Bearer gp_…'")
        if request.method not in view.allowed_methods:
            return True  # no handler to protect: DRF answers 405
        needed = _scope(view, request.method)
        if needed is None or needed not in asker.scopes:
            raise PermissionDenied(f"The key lacks the scope {needed!r}" if needed else "Nobody may do this")
        return True


def _scope(view: "APIView", method: str) -> str | None:
    scopes: Mapping[str, str] = getattr(view, "scopes", {})
    return scopes.get("GET" if method == "HEAD" else method)

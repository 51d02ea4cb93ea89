import uuid
from decimal import Decimal
from typing import Any

import pytest
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from apps.accounts.caller import Caller, Limits
from apps.accounts.permissions import HasScope
from apps.core.errors import NotAuthenticated, PermissionDenied


class View:
    """What the permission reads of a DRF view."""

    allowed_methods = ["GET", "HEAD", "POST", "OPTIONS"]
    scopes = {"GET": "jobs:read", "POST": "jobs:write"}


class ViewThatDeclaresNothing:
    allowed_methods = ["GET"]


def asked(method: str, *scopes: str, view: Any = View) -> bool:
    request = Request(APIRequestFactory().generic(method, "/"))
    tier = Limits("t", Decimal(1), 1, 1, 1, 1, 1, False, frozenset())
    ids = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    request.user = Caller(*ids, frozenset(scopes), "UTC", False, tier, None)  # type: ignore[assignment]  # DRF's stubs know Django's users only
    return HasScope().has_permission(request, view())


def test_the_scope_of_the_method_opens_it() -> None:
    assert asked("GET", "jobs:read")
    assert asked("HEAD", "jobs:read")
    assert asked("POST", "jobs:write")


def test_another_scope_does_not() -> None:
    with pytest.raises(PermissionDenied, match="jobs:write"):
        asked("POST", "jobs:read")


def test_a_view_that_declares_no_scope_is_closed() -> None:
    with pytest.raises(PermissionDenied):
        asked("GET", "jobs:read", "jobs:write", view=ViewThatDeclaresNothing)


def test_a_method_without_a_declared_scope_is_closed() -> None:
    with pytest.raises(PermissionDenied):
        asked("OPTIONS", "jobs:read", "jobs:write")


def test_a_method_without_a_handler_is_left_to_the_405() -> None:
    assert asked("DELETE")


def test_nobody_is_asked_to_authenticate() -> None:
    request = Request(APIRequestFactory().get("/"))
    request.user = None  # type: ignore[assignment]  # UNAUTHENTICATED_USER
    with pytest.raises(NotAuthenticated):
        HasScope().has_permission(request, View())  # type: ignore[arg-type]  # a view as far as it is read

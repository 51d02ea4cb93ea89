"""Who may call what: every route of the URL table, every method, everybody who should not get in.

A route without a row here fails: say who may call it.
"""

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import get_resolver
from django.urls.resolvers import URLPattern, URLResolver
from pytest_django.plugin import DjangoDbBlocker
from rest_framework.test import APIClient

from apps.accounts import caller, keys
from apps.accounts.models import ApiKey, User
from apps.batches.models import Batch
from apps.catalog import snapshot, sync
from apps.core import clock
from apps.jobs.models import Job
from apps.ops import reconcile
from apps.webhooks.models import Endpoint
from tests import factories
from tests.factories import Someone, body

READ, WRITE, HOOKS = ApiKey.Scope.JOBS_READ, ApiKey.Scope.JOBS_WRITE, ApiKey.Scope.WEBHOOKS
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# With a key: the scope that each method needs. What is not listed is 405, or 403 (OPTIONS).
API: dict[str, dict[str, ApiKey.Scope]] = {
    "v1/jobs": {"GET": READ, "HEAD": READ, "POST": WRITE},
    "v1/jobs/<uuid:job_id>": {"GET": READ, "HEAD": READ},
    "v1/jobs/<uuid:job_id>/cancel": {"POST": WRITE},
    "v1/jobs/<uuid:job_id>/feedback": {"POST": WRITE},
    "v1/jobs/<uuid:job_id>/events": {"GET": READ, "HEAD": READ},
    "v1/estimates": {"POST": READ},
    "v1/models": {"GET": READ, "HEAD": READ},
    "v1/batches": {"GET": READ, "HEAD": READ, "POST": WRITE},
    "v1/batches/<uuid:batch_id>": {"GET": READ, "HEAD": READ},
    "v1/batches/<uuid:batch_id>/results": {"GET": READ, "HEAD": READ},
    "v1/batches/<uuid:batch_id>/cancel": {"POST": WRITE},
    "v1/cache/purge": {"POST": WRITE},
    "v1/budget": {"GET": READ, "HEAD": READ},
    "v1/usage": {"GET": READ, "HEAD": READ},
    "v1/usage/entries": {"GET": READ, "HEAD": READ},
    "v1/statements/<str:month>": {"GET": READ, "HEAD": READ},
    "v1/webhooks/secret": {"GET": WRITE, "HEAD": WRITE},
    "v1/webhooks/endpoints": {"GET": HOOKS, "HEAD": HOOKS, "POST": HOOKS},
    "v1/webhooks/endpoints/<uuid:endpoint_id>": {"DELETE": HOOKS},
}
# What to send where it is not a job.
BODIES: dict[str, Any] = {
    "v1/batches": [body(custom_id="of-others")],
    "v1/webhooks/endpoints": {"url": "https://example.com/others"},
    "v1/cache/purge": {"all": True},
    "v1/jobs/<uuid:job_id>/feedback": {"verdict": "good"},
}
# Without a key, for everybody: what a GET is answered.
PUBLIC = {
    "": 302,
    "v1/openapi.json": 200,
    "v1/docs": 200,
    "v1/docs/errors": 200,
    "healthz": 200,
    # From this machine, without a proxy between; tests/ops/test_metrics.py says who else may not.
    "metrics": 200,
    "readyz": 200,
}
# Without a key, with a signature: what a caller without one is answered.
SIGNED: dict[str, dict[str, int]] = {
    "v1/artifacts/<uuid:artifact_id>": {"GET": 403, "HEAD": 403},
    "v1/providers/<slug:provider>/webhooks/<uuid:attempt_id>": {"POST": 401},
}
# For staff: everything under it but the door itself.
ADMIN, DOOR = "admin/", "admin/login/"
# Only in development.
DEVELOPMENT = {"^static/(?P<path>.*)$"}


def _routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> dict[str, URLPattern]:
    found: dict[str, URLPattern] = {}
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            found |= _routes(pattern.url_patterns, path)
        else:
            found[path] = pattern
    return found


ROUTES = _routes(get_resolver().url_patterns)
ADMIN_ROUTES = sorted(path for path in ROUTES if path.startswith(ADMIN) and path != DOOR)


def test_every_route_has_a_row() -> None:
    here = set(API) | set(PUBLIC) | set(SIGNED) | set(ADMIN_ROUTES) | {DOOR}
    assert set(ROUTES) - DEVELOPMENT == here


@pytest.mark.parametrize("route", API)
def test_the_row_lists_every_method_of_the_route(route: str) -> None:
    view: Any = ROUTES[route].callback
    offered = {name for name in METHODS if hasattr(view.cls, name.lower())} - {"OPTIONS"}
    assert offered | ({"HEAD"} if "GET" in offered else set()) == set(API[route])


# --- The cast ---------------------------------------------------------------------------------


class World:
    """One job of one user, and everybody who might want it."""

    def __init__(self) -> None:
        self.owner = factories.someone(is_team_admin=True)
        self.job_id = ""
        assert self.owner.user.team_id
        url = "https://example.com/hook"
        self.endpoint = Endpoint.objects.create(team_id=self.owner.user.team_id, url=url)
        user, now = self.owner.user, clock.now()
        assert user.team_id
        self.batch = Batch.objects.create(
            team_id=user.team_id, user=user, total=1, expires_at=now + timedelta(days=1)
        )
        self.colleague = factories.someone(team=user.team)
        self.stranger = factories.someone(is_team_admin=True)
        revoked, revoked_text = keys.issue(user, name="revoked", scopes=[READ, WRITE])
        keys.revoke(revoked)
        expired = keys.issue(user, name="old", scopes=[READ, WRITE], expires_at=now - timedelta(seconds=1))[1]
        gone = factories.someone()
        User.objects.filter(pk=gone.user.pk).update(is_active=False)
        mistyped = self.owner.key[:-1] + ("0" if self.owner.key[-1] != "0" else "1")
        self.refused: dict[str, str | None] = {
            "no key": None,
            "an empty header": "",
            "a malformed key": "Bearer gp_live_nonsense",
            "a mistyped key": f"Bearer {mistyped}",
            "another scheme": f"Basic {self.owner.key}",
            "no scheme": self.owner.key,
            "two keys": f"Bearer {self.owner.key}, Bearer {self.stranger.key}",
            "a revoked key": f"Bearer {revoked_text}",
            "an expired key": f"Bearer {expired}",
            "a key of an inactive user": f"Bearer {gone.key}",
        }

    def with_scopes(self, *scopes: ApiKey.Scope) -> str:
        return f"Bearer {keys.issue(self.owner.user, name='scoped', scopes=scopes)[1]}"


REFUSED = (
    "no key", "an empty header", "a malformed key", "a mistyped key", "another scheme", "no scheme", "two keys",
    "a revoked key", "an expired key", "a key of an inactive user",
)  # fmt: skip


@pytest.fixture(scope="module")
def _world(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[World]:
    """For all tests of this module, in a transaction around the transactions of each."""
    snapshot.forget()
    with django_db_blocker.unblock(), transaction.atomic():
        sync.sync()
        yield World()
        transaction.set_rollback(True)
    snapshot.forget()
    caller.forget()


@pytest.fixture
def world(_world: World, db: None) -> Iterator[World]:
    snapshot.forget()
    _world.job_id = _world.owner.api.post("/v1/jobs", body(), format="json").json()["id"]
    yield _world
    assert reconcile.differences() == []


def _path(route: str, world: World | None = None, job_id: str = "") -> str:
    """An address of the route: of what is in the world, or of something that may not exist."""
    path = route
    if world:
        path = path.replace("<uuid:endpoint_id>", str(world.endpoint.pk))
        path = path.replace("<uuid:batch_id>", str(world.batch.pk))
        path = path.replace("<uuid:job_id>", job_id or world.job_id)
    path = path.replace("<str:month>", f"{clock.now():%Y-%m}")
    path = re.sub(r"<uuid:\w+>", str(uuid.uuid4()), path)
    path = re.sub(r"<slug:provider>", "wavespeed", path)
    path = re.sub(r"<(\w+:)?\w+>", "1", path)
    path = re.sub(r"\(\?P<app_label>(\w+)[^)]*\)", r"\1", path)
    path = re.sub(r"\(\?P<url>\.\*\)", "nowhere", path)
    return "/" + path.replace("^", "").replace("$", "")


def _call(method: str, path: str, authorization: str | None) -> Any:
    headers = {} if authorization is None else {"HTTP_AUTHORIZATION": authorization}
    sent = (
        BODIES.get(
            re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid:job_id>", path.removeprefix("/")),
            body(prompt="somebody else's"),
        )
        if method == "POST"
        else None
    )
    send: Callable[..., Any] = getattr(APIClient(), method.lower())
    if method in ("GET", "HEAD"):
        return send(path, **headers)
    return send(path, sent, format="json", **headers)


# --- With a key -------------------------------------------------------------------------------


@pytest.mark.parametrize("who", REFUSED)
@pytest.mark.parametrize("route", API)
def test_nobody_gets_in_without_a_good_key(world: World, route: str, who: str) -> None:
    assert set(world.refused) == set(REFUSED)
    for method in METHODS:
        response = _call(method, _path(route, world), world.refused[who])
        assert response.status_code == 401, f"{method} with {who}"
        assert response["WWW-Authenticate"].startswith("Bearer")
        assert response["Content-Type"] == "application/problem+json"
    assert (Job.objects.count(), Job.objects.get().cancel_requested_at) == (1, None)


@pytest.mark.parametrize("route", API)
def test_a_key_in_the_url_opens_nothing(world: World, route: str) -> None:
    for method in METHODS:
        path = f"{_path(route, world)}?key={world.owner.key}"
        assert _call(method, path, None).status_code == 401
        assert _call(method, path, f"Bearer {world.owner.key}").status_code == 401


@pytest.mark.parametrize("route", API)
def test_a_key_without_the_scope_is_refused(world: World, route: str) -> None:
    for method in METHODS:
        needed = API[route].get(method)
        others = [scope for scope in ApiKey.Scope if scope != needed]
        response = _call(method, _path(route, world), world.with_scopes(*others))
        expected = 403 if needed or method == "OPTIONS" else 405
        assert response.status_code == expected, method
    assert (Job.objects.count(), Job.objects.get().cancel_requested_at) == (1, None)


@pytest.mark.parametrize("route", API)
def test_a_key_with_just_the_scope_gets_in(world: World, route: str) -> None:
    for method, needed in API[route].items():
        response = _call(method, _path(route, world), world.with_scopes(needed))
        # 409: in, and told that the job has no result yet to give feedback on.
        assert response.status_code in ((409,) if route.endswith("feedback") else (200, 201, 202, 204)), (
            method
        )


@pytest.mark.parametrize("route", [route for route, methods in API.items() if HOOKS in methods.values()])
def test_only_a_teams_admins_choose_where_its_webhooks_go(world: World, route: str) -> None:
    member = keys.issue(world.colleague.user, name="hooks", scopes=[HOOKS])[1]
    for method in API[route]:
        assert _call(method, _path(route, world), f"Bearer {member}").status_code == 403, method
    other = keys.issue(world.stranger.user, name="hooks", scopes=[HOOKS])[1]
    if "endpoint_id" in route:
        assert _call("DELETE", _path(route, world), f"Bearer {other}").status_code == 404
    else:
        assert _call("GET", _path(route, world), f"Bearer {other}").json() == {"data": []}
    assert Endpoint.objects.get().pk == world.endpoint.pk


@pytest.mark.parametrize("route", [route for route in API if "job_id" in route])
@pytest.mark.parametrize("who", ["colleague", "stranger"])
def test_anybody_elses_job_does_not_exist(world: World, route: str, who: str) -> None:
    other: Someone = getattr(world, who)
    for method in API[route]:
        response = _call(method, _path(route, world), f"Bearer {other.key}")
        assert response.status_code == 404, method
        unknown = _call(method, _path(route, world, str(uuid.uuid4())), f"Bearer {other.key}")
        assert response.content == unknown.content
    assert Job.objects.get().cancel_requested_at is None


@pytest.mark.parametrize("route", [route for route in API if "batch_id" in route])
@pytest.mark.parametrize("who", ["colleague", "stranger"])
def test_anybody_elses_batch_does_not_exist(world: World, route: str, who: str) -> None:
    other: Someone = getattr(world, who)
    for method in API[route]:
        response = _call(method, _path(route, world), f"Bearer {other.key}")
        assert response.status_code == 404, method
        assert response.content == _call(method, _path(route), f"Bearer {other.key}").content
    world.batch.refresh_from_db()
    assert world.batch.cancel_requested_at is None


@pytest.mark.parametrize("who", ["colleague", "stranger"])
def test_the_collections_show_others_nothing_of_it(world: World, who: str) -> None:
    other: Someone = getattr(world, who)
    assert other.api.get("/v1/jobs").json()["data"] == []
    assert other.api.get("/v1/batches").json()["data"] == []
    theirs = {"batch_id": str(world.batch.pk)}
    assert other.api.get("/v1/jobs", theirs).json()["data"] == []
    assert other.budget["held_usd"] == "0"
    assert other.api.get("/v1/usage/entries").json()["data"] == []
    entries = {"reference": world.job_id, "scope": "team"}
    allowed = other.user.is_team_admin
    answer = other.api.get("/v1/usage/entries", entries)
    assert answer.json()["data"] == [] if allowed else answer.status_code == 403
    assert other.api.get("/v1/jobs", {"user_id": str(world.owner.user.pk)}).status_code == 422


# --- Without one ------------------------------------------------------------------------------


@pytest.mark.parametrize("route", PUBLIC)
def test_what_is_public_only_answers(world: World, route: str) -> None:
    response = Client().get(_path(route))
    assert response.status_code == PUBLIC[route]
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert _call(method, _path(route), None).status_code in (200, 302, 401, 403, 405)
    assert Job.objects.count() == 1


@pytest.mark.parametrize("route", SIGNED)
def test_what_is_signed_needs_its_signature_and_no_key_replaces_it(world: World, route: str) -> None:
    for authorization in (None, f"Bearer {world.owner.key}"):
        for method in METHODS:
            response = _call(method, _path(route), authorization)
            assert response.status_code == SIGNED[route].get(method, 405), method


# --- For staff --------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ADMIN_ROUTES)
def test_the_admin_sends_everybody_but_staff_to_its_door(world: World, route: str) -> None:
    member, keyed, nobody = Client(), Client(HTTP_AUTHORIZATION=f"Bearer {world.owner.key}"), Client()
    member.force_login(world.owner.user)
    for client in (nobody, keyed, member):
        for method in ("get", "post", "put", "delete"):
            response = getattr(client, method)(_path(route))
            assert response.status_code in (302, 405), method
            if response.status_code == 302:
                assert response["Location"].startswith(("/" + DOOR, "/admin/")), response["Location"]
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    "route", [route for route in ADMIN_ROUTES if re.search(r"/(add|delete|change)/$", route)]
)
def test_staff_without_permissions_may_not_change_anything(world: World, route: str) -> None:
    staff = Client()
    staff.force_login(User.objects.create(username="temp", is_staff=True))
    for method in ("get", "post"):
        response = getattr(staff, method)(_path(route))
        # Of a row that does not exist the admin says so on its index.
        assert response.status_code == 403 or response["Location"] == "/admin/", method

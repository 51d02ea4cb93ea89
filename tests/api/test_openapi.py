"""The OpenAPI document tells the truth, and the page that shows it needs no other host."""

import re
from io import StringIO
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client
from django.urls import get_resolver
from django.urls.resolvers import URLPattern, URLResolver

from apps.batches.urls import urlpatterns as batch_routes
from apps.jobs import serializers
from apps.jobs.urls import urlpatterns as job_routes
from apps.ledger.urls import urlpatterns as money_routes
from apps.webhooks.urls import urlpatterns as webhook_routes

pytestmark = pytest.mark.django_db

# Not called with a key: doors for providers and for links that the API itself hands out, and the document.
NOT_DESCRIBED = {
    "v1/artifacts/<uuid:artifact_id>",
    "v1/providers/<slug:provider>/webhooks/<uuid:attempt_id>",
    "v1/openapi.json",
    "v1/docs",
    "v1/docs/errors",
}


@pytest.fixture(scope="module")
def document(django_db_setup: None) -> dict[str, Any]:
    """As anybody gets it, without a key."""
    response = Client().get("/v1/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> list[str]:
    found = []
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        found += routes(pattern.url_patterns, path) if isinstance(pattern, URLResolver) else [path]
    return found


def test_it_is_generated_without_a_warning_and_is_valid() -> None:
    call_command("spectacular", "--fail-on-warn", "--validate", stdout=StringIO())


def test_every_route_of_the_api_is_in_it(document: dict[str, Any]) -> None:
    ours = {path for path in routes(get_resolver().url_patterns) if path.startswith("v1/")}
    assert ours >= NOT_DESCRIBED
    described = {"/" + re.sub(r"<\w+:(\w+)>", r"{\1}", path) for path in ours - NOT_DESCRIBED}
    assert set(document["paths"]) == described


def test_every_method_of_a_route_is_in_it(document: dict[str, Any]) -> None:
    for route in [*job_routes, *batch_routes, *money_routes, *webhook_routes]:
        path = "/v1/" + re.sub(r"<\w+:(\w+)>", r"{\1}", str(route.pattern))
        view: Any = route.callback
        methods = {name for name in ("get", "post", "put", "patch", "delete") if hasattr(view.cls, name)}
        assert set(document["paths"][path]) == methods, path


def test_every_call_has_a_line_that_says_what_it_does(document: dict[str, Any]) -> None:
    summaries = [call.get("summary", "") for path in document["paths"].values() for call in path.values()]
    assert all(summaries)
    assert len(set(summaries)) == len(summaries)


def test_every_call_needs_a_bearer_key(document: dict[str, Any]) -> None:
    [(name, scheme)] = document["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["security"] == [{name: []}], (method, path)
            assert "401" in operation["responses"]


def test_the_request_of_a_job_lists_its_fields(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/jobs"]["post"]
    shape = _resolved(document, operation["requestBody"]["content"]["application/json"]["schema"])
    assert set(shape["properties"]) == set(serializers.JobRequest.model_fields)
    assert {"type", "prompt"} == set(shape["required"])
    assert shape["additionalProperties"] is False
    params = _resolved(document, shape["properties"]["params"])
    assert set(params["properties"]) == set(serializers.Params.model_fields)
    assert "Idempotency-Key" in {parameter["name"] for parameter in operation["parameters"]}


def test_the_answers_of_a_job_are_described(document: dict[str, Any]) -> None:
    answers = document["paths"]["/v1/jobs"]["post"]["responses"]
    assert {"200", "202", "400", "401", "402", "403", "404", "410", "413", "415", "422", "429", "503"} <= set(
        answers
    )
    accepted = _resolved(document, answers["202"]["content"]["application/json"]["schema"])
    assert {"id", "status", "model", "estimated_cost_usd", "estimated_time_s", "created_at", "urls"} <= set(
        accepted["properties"]
    )
    problem = _resolved(document, answers["402"]["content"]["application/problem+json"]["schema"])
    assert {"type", "title", "status", "code", "detail"} <= set(problem["properties"])


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema behind a reference, also one wrapped in `allOf` beside a default."""
    [reference] = [part["$ref"] for part in schema.get("allOf", [schema])]
    found: dict[str, Any] = document["components"]["schemas"][reference.rpartition("/")[2]]
    return found


def test_the_page_loads_only_files_of_ours() -> None:
    html = Client().get("/v1/docs").content.decode()
    assets = re.findall(r"""(?:src|href)=["']([^"']+)""", html)
    assert len(assets) >= 3
    for asset in assets:
        assert asset.startswith("/static/"), asset
        assert finders.find(asset.removeprefix("/static/")), asset
    assert "http://" not in html
    assert "https://" not in html
    assert "/v1/openapi.json" in html

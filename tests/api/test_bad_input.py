"""Nothing that a stranger sends is a server error, and a refused request leaves nothing behind."""

import gzip
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import transaction
from django.http import HttpResponse
from pytest_django.plugin import DjangoDbBlocker
from rest_framework.test import APIClient

from apps.catalog import snapshot, sync
from apps.catalog.models import GenerationModel
from apps.core import clock
from apps.core import schemas as core_schemas
from apps.jobs import submit
from tests import factories
from tests.api.shapes import conforms
from tests.factories import Someone, body

Stored = Callable[[], tuple[int, int, int]]
JSON = "application/json"


@pytest.fixture(scope="module")
def _world(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Someone]:
    """The catalog and one user for all these cases, in a transaction around the transactions of each."""
    with django_db_blocker.unblock(), transaction.atomic():
        sync.sync()
        yield factories.someone()
        transaction.set_rollback(True)


@pytest.fixture(autouse=True)
def _catalog(_world: Someone, db: None) -> Iterator[None]:
    snapshot.forget()
    yield
    snapshot.forget()


@pytest.fixture
def pro(_world: Someone) -> Someone:
    return _world


@pytest.fixture(autouse=True)
def _outside_development(settings: LazySettings) -> None:
    settings.ALLOW_LOOPBACK_TARGETS = False


def problem(response: Any, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """The problem document, after checking that it is one and names the field."""
    assert response.status_code == status, response.content[:500]
    assert response["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert (found["status"], found["code"]) == (status, code), found
    assert {"type", "title", "detail", "retryable"} <= set(found)
    if field is not None:
        assert field in [error["field"] for error in found["errors"]], found
        assert all(conforms(core_schemas.FieldError, error) for error in found["errors"])
    return found


def params(**values: Any) -> dict[str, Any]:
    return body(params=values)


def video(**values: Any) -> dict[str, Any]:
    return body(type="video", model="clip", params=values)


# --- Fields -----------------------------------------------------------------------------------

WRONG_FIELDS: list[tuple[str, Any, str]] = [
    ("a list", [], "body"),
    ("a text", "a lighthouse", "body"),
    ("a number", 7, "body"),
    ("null", None, "body"),
    ("no type", {"prompt": "x"}, "type"),
    ("type null", body(type=None), "type"),
    ("type unknown", body(type="hologram"), "type"),
    ("type in capitals", body(type="IMAGE"), "type"),
    ("type a number", body(type=1), "type"),
    ("type a list", body(type=["image"]), "type"),
    ("no prompt", {"type": "image"}, "prompt"),
    ("prompt null", body(prompt=None), "prompt"),
    ("prompt a number", body(prompt=5), "prompt"),
    ("prompt a list", body(prompt=["a", "b"]), "prompt"),
    ("prompt an object", body(prompt={"text": "x"}), "prompt"),
    ("prompt empty", body(prompt=""), "prompt"),
    ("prompt blank", body(prompt=" \t\r\n  "), "prompt"),
    ("prompt of no-break spaces", body(prompt="\u00a0\u2003\u3000"), "prompt"),
    ("prompt of zero-width characters", body(prompt="\u200b\u200d\ufeff"), "prompt"),
    ("prompt of bidi controls only", body(prompt="\u202e\u2066"), "prompt"),
    ("prompt that leaves a bidi override open", body(prompt="a \u202ecat"), "prompt"),
    ("prompt that leaves a bidi isolate open", body(prompt="a \u2066cat"), "prompt"),
    ("prompt with NUL", body(prompt="a\x00b"), "prompt"),
    ("prompt with escape", body(prompt="a\x1b[31mb"), "prompt"),
    ("prompt with C1 control", body(prompt="a\x9bb"), "prompt"),
    ("prompt with bare CR", body(prompt="a\rb"), "prompt"),
    ("prompt with stacked marks", body(prompt="a" + "\u0301" * 50), "prompt"),
    ("prompt of combining marks, nearly 1 MB", body(prompt="e" + "\u0301" * 160_000), "prompt"),
    ("prompt too long", body(prompt="x" * 10_001), "prompt"),
    ("model null is none, unknown is not", body(model="no-such"), "model"),
    ("model empty", body(model=""), "model"),
    ("model too long", body(model="m" * 101), "model"),
    ("model a number", body(model=3), "model"),
    ("model true", body(model=True), "model"),
    ("model of another kind", body(model="clip"), "model"),
    ("model with a path", body(model="../../etc/passwd"), "model"),
    ("model with SQL", body(model="' OR 1=1 --"), "model"),
    ("model with NUL", body(model="fast\x00draft"), "model"),
    ("fallback_models a text", body(fallback_models="standard"), "fallback_models"),
    ("fallback_models null", body(fallback_models=None), "fallback_models"),
    ("fallback_models of numbers", body(fallback_models=[1]), "fallback_models[0]"),
    ("fallback_models too many", body(fallback_models=["standard"] * 6), "fallback_models"),
    ("fallback_models with an empty one", body(fallback_models=["standard", ""]), "fallback_models[1]"),
    ("fallback_models unknown", body(fallback_models=["standard", "no-such"]), "fallback_models[1]"),
    ("requirements null", body(requirements=None), "requirements"),
    ("requirements a list", body(requirements=[]), "requirements"),
    ("quality 0", body(requirements={"quality": 0}), "requirements.quality"),
    ("quality 11", body(requirements={"quality": 11}), "requirements.quality"),
    ("quality a text", body(requirements={"quality": "5"}), "requirements.quality"),
    ("quality true", body(requirements={"quality": True}), "requirements.quality"),
    ("quality 5.5", body(requirements={"quality": 5.5}), "requirements.quality"),
    ("content_type a number", body(requirements={"content_type": 1}), "requirements.content_type"),
    ("content_type too long", body(requirements={"content_type": "x" * 41}), "requirements.content_type"),
    ("requirement unknown", body(requirements={"speed": 1}), "requirements.speed"),
    ("params null", body(params=None), "params"),
    ("params a list", body(params=[]), "params"),
    ("params unknown", params(steps=30), "params.steps"),
    ("width 0", params(width=0), "params.width"),
    ("width -1", params(width=-1), "params.width"),
    ("width 10^9", params(width=10**9), "params.width"),
    ("width beyond the model", params(width=1537), "params.width"),
    ("width a text", params(width="512"), "params.width"),
    ("width true", params(width=True), "params.width"),
    ("width 512.0", params(width=512.0), "params.width"),
    ("width 512.5", params(width=512.5), "params.width"),
    ("width an object", params(width={"px": 512}), "params.width"),
    ("width a list", params(width=[512]), "params.width"),
    ("height 0", params(height=0), "params.height"),
    ("height 2^31", params(height=2**31), "params.height"),
    ("height a text", params(height="512"), "params.height"),
    ("width times height", params(width=1536, height=1536 + 64), "params.height"),
    ("megapixels", body(model="premium", params={"width": 4096, "height": 4096}), "params.height"),
    ("n 0", params(n=0), "params.n"),
    ("n -1", params(n=-1), "params.n"),
    ("n beyond the model", params(n=5), "params.n"),
    ("n 10^6", params(n=10**6), "params.n"),
    ("n a text", params(n="2"), "params.n"),
    ("n false", params(n=False), "params.n"),
    ("n 1.0", params(n=1.0), "params.n"),
    ("seed -1", params(seed=-1), "params.seed"),
    ("seed 2^31", params(seed=2**31), "params.seed"),
    ("seed 2^63", params(seed=2**63), "params.seed"),
    ("seed 10^100", params(seed=10**100), "params.seed"),
    ("seed 10^400", params(seed=10**400), "params.seed"),
    ("seed a text", params(seed="7"), "params.seed"),
    ("seed 1.5", params(seed=1.5), "params.seed"),
    ("duration for an image", params(duration_s=5), "params.duration_s"),
    ("voice for an image", params(voice="aria"), "params.voice"),
    ("width for a video", video(width=512), "params.width"),
    ("duration 0", video(duration_s=0), "params.duration_s"),
    ("duration -5", video(duration_s=-5), "params.duration_s"),
    ("duration a text", video(duration_s="5"), "params.duration_s"),
    ("duration true", video(duration_s=True), "params.duration_s"),
    ("duration 1e308", video(duration_s=1e308), "params.duration_s"),
    ("duration 10^400", video(duration_s=10**400), "params.duration_s"),
    ("duration a sliver", video(duration_s=1e-300), "params.duration_s"),
    ("resolution unknown", video(resolution="8k"), "params.resolution"),
    ("resolution a number", video(resolution=720), "params.resolution"),
    ("resolution too long", video(resolution="7" * 21), "params.resolution"),
    ("aspect ratio unknown", video(aspect_ratio="2:1"), "params.aspect_ratio"),
    ("aspect ratio a number", video(aspect_ratio=1.78), "params.aspect_ratio"),
    ("voice unknown", body(type="audio", model="speech", params={"voice": "hal"}), "params.voice"),
    ("negative prompt a number", params(negative_prompt=1), "params.negative_prompt"),
    ("negative prompt too long", params(negative_prompt="x" * 2001), "params.negative_prompt"),
    ("negative prompt with NUL", params(negative_prompt="a\x00"), "params.negative_prompt"),
    ("callback_url a number", body(callback_url=1), "callback_url"),
    ("callback_url empty", body(callback_url=""), "callback_url"),
    ("callback_url too long", body(callback_url="https://example.com/" + "a" * 2048), "callback_url"),
    ("metadata null", body(metadata=None), "metadata"),
    ("metadata a list", body(metadata=[1]), "metadata"),
    ("metadata a text", body(metadata="x"), "metadata"),
    ("metadata too large", body(metadata={"k": "v" * 4096}), "metadata"),
    ("metadata with NUL", body(metadata={"k": "a\x00"}), "metadata.k"),
    ("metadata with NUL in a name", body(metadata={"k\x00": 1}), "metadata"),
    ("metadata with NUL deep inside", body(metadata={"k": [{"l": "a\x00"}]}), "metadata.k[0].l"),
    ("metadata with 10^400", body(metadata={"k": 10**400}), "metadata.k"),
    ("priority unknown", body(priority="urgent"), "priority"),
    ("priority null", body(priority=None), "priority"),
    ("priority a number", body(priority=1), "priority"),
    ("cache unknown", body(cache="semantic-ish"), "cache"),
    ("cache a bool", body(cache=False), "cache"),
    ("cost", body(cost="0"), "cost"),
    ("cost_usd", body(cost_usd="0"), "cost_usd"),
    ("user_id", body(user_id="01999999-0000-7000-8000-000000000000"), "user_id"),
    ("team", body(team="other"), "team"),
    ("status", body(status="completed"), "status"),
    ("id", body(id="01999999-0000-7000-8000-000000000000"), "id"),
    ("outputs", body(outputs=[]), "outputs"),
    ("deadline", body(deadline="yesterday"), "deadline"),
    ("a name of the prototype", body(__proto__={"admin": True}), "__proto__"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "field"), [case[1:] for case in WRONG_FIELDS], ids=[case[0] for case in WRONG_FIELDS]
)
def test_a_wrong_field_is_named_and_nothing_is_kept(
    pro: Someone, stored: Stored, sent: Any, field: str
) -> None:
    before = stored()
    response = pro.api.post("/v1/jobs", json.dumps(sent), content_type=JSON)
    expected = (404, "model_not_found") if _is_unknown_model(response) else (422, "invalid_request")
    problem(response, *expected, field=field)
    assert stored() == before


def _is_unknown_model(response: HttpResponse) -> bool:
    return response.status_code == 404


def test_every_bad_field_is_named_at_once(pro: Someone) -> None:
    response = pro.api.post(
        "/v1/jobs", {"type": "x", "params": {"width": "1", "n": 0}, "cost": 1}, format="json"
    )
    named = {error["field"] for error in problem(response, 422, "invalid_request")["errors"]}
    assert named == {"type", "prompt", "params.width", "params.n", "cost"}


def test_the_estimate_refuses_the_same_fields(pro: Someone) -> None:
    for wrong, field in (
        ({"params": {"n": "2"}}, "params.n"),
        ({"prompt": " "}, "prompt"),
        ({"callback_url": "https://example.com"}, "callback_url"),
    ):
        asked = {"type": "image", "prompt": "x", **wrong}
        problem(pro.api.post("/v1/estimates", asked, format="json"), 422, "invalid_request", field)


# --- Bodies -----------------------------------------------------------------------------------

_GOOD = json.dumps(body()).encode()
UNREADABLE: list[tuple[str, bytes, int, str]] = [
    ("cut short", _GOOD[:-1], 400, "malformed_request"),
    ("two values", _GOOD + _GOOD, 400, "malformed_request"),
    ("single quotes", b"{'type': 'image'}", 400, "malformed_request"),
    ("a trailing comma", b'{"type": "image",}', 400, "malformed_request"),
    ("only spaces", b"   ", 400, "malformed_request"),
    ("XML", b"<job/>", 400, "malformed_request"),
    ("a byte order mark", b"\xef\xbb\xbf" + _GOOD, 400, "malformed_request"),
    ("Latin-1", '{"type": "image", "prompt": "é"}'.encode("latin-1"), 400, "malformed_request"),
    ("UTF-16", _GOOD.decode().encode("utf-16"), 400, "malformed_request"),
    ("overlong UTF-8", b'{"type": "image", "prompt": "\xc0\x80"}', 400, "malformed_request"),
    ("a surrogate in UTF-8", b'{"type": "image", "prompt": "\xed\xa0\x80"}', 400, "malformed_request"),
    ("NaN", b'{"type": "image", "params": {"width": NaN}}', 400, "malformed_request"),
    ("Infinity", b'{"type": "image", "params": {"seed": Infinity}}', 400, "malformed_request"),
    ("minus Infinity", b'{"type": "image", "params": {"seed": -Infinity}}', 400, "malformed_request"),
    ("a number of 5,000 digits", b'{"type": "image", "n": ' + b"9" * 5000 + b"}", 400, "malformed_request"),
    ("10,000 lists deep", b"[" * 10_000 + b"]" * 10_000, 400, "malformed_request"),
    ("10,000 objects deep", b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400, "malformed_request"),
    ("33 lists deep in metadata", b'{"metadata": ' + b"[" * 33 + b"]" * 33 + b"}", 400, "malformed_request"),
    ("a lone surrogate", rb'{"type": "image", "prompt": "\ud800"}', 422, "invalid_request"),
    ("surrogates the wrong way round", rb'{"type": "image", "prompt": "\udc00\ud800"}', 422, "invalid_request"),
    ("an escaped NUL", rb'{"type": "image", "prompt": "\u0000"}', 422, "invalid_request"),
    ("1e400", b'{"type": "image", "params": {"seed": 1e400}}', 422, "invalid_request"),
    ("a key twice", b'{"type": "image", "type": "video", "prompt": "x"}', 422, "invalid_request"),
    ("a key twice inside", b'{"type": "image", "params": {"n": 1, "n": 4}}', 422, "invalid_request"),
    ("nothing", b"", 422, "invalid_request"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "status", "code"), [case[1:] for case in UNREADABLE], ids=[case[0] for case in UNREADABLE]
)
def test_an_unreadable_body_is_refused_and_nothing_is_kept(
    pro: Someone, stored: Stored, raw: bytes, status: int, code: str
) -> None:
    before = stored()
    problem(pro.api.post("/v1/jobs", raw, content_type=JSON), status, code)
    assert stored() == before


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b'{"type": "image", "type": "video", "prompt": "x"}', "type"),
        (b'{"type": "image", "params": {"n": 1, "n": 4}}', "n"),
        (rb'{"type": "image", "prompt": "\ud800"}', "prompt"),
        (b'{"type": "image", "params": {"seed": 1e400}}', "params.seed"),
        (rb'{"metadata": {"a": [1, {"b": "\u0000"}]}}', "metadata.a[1].b"),
    ],
)
def test_what_the_parser_refuses_is_named(pro: Someone, raw: bytes, field: str) -> None:
    problem(pro.api.post("/v1/jobs", raw, content_type=JSON), 422, "invalid_request", field)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        'application/json; charset="utf-16"',
        "application/xml",
        "application/jsonx",
    ],
)
def test_another_media_type_or_charset_is_415(pro: Someone, stored: Stored, content_type: str) -> None:
    before = stored()
    response = pro.api.post("/v1/jobs", _GOOD, content_type=content_type)
    problem(response, 415, "unsupported_media_type")
    assert stored() == before


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", 'application/json; charset="UTF-8"']
)
def test_utf_8_may_be_said(pro: Someone, content_type: str) -> None:
    assert pro.api.post("/v1/jobs", _GOOD, content_type=content_type).status_code == 202


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "GZIP"])
def test_a_compressed_body_is_415_and_never_expanded(pro: Someone, stored: Stored, encoding: str) -> None:
    bomb = gzip.compress(b'{"prompt": "' + b"a" * 20_000_000 + b'"}')
    began = time.thread_time()
    response = pro.api.post("/v1/jobs", bomb, content_type=JSON, HTTP_CONTENT_ENCODING=encoding)
    assert time.thread_time() - began < 0.5
    problem(response, 415, "unsupported_media_type")
    assert stored() == (0, 0, 0)


@pytest.mark.parametrize("size", [1_000_001, 2_000_000])
def test_a_large_body_is_413(pro: Someone, stored: Stored, size: int) -> None:
    raw = b'{"type": "image", "prompt": "' + b"x" * size + b'"}'
    problem(pro.api.post("/v1/jobs", raw, content_type=JSON), 413, "request_too_large")
    assert stored() == (0, 0, 0)


def test_an_answer_that_is_not_json_is_not_offered(pro: Someone, stored: Stored) -> None:
    response = pro.api.post("/v1/jobs", _GOOD, content_type=JSON, HTTP_ACCEPT="application/xml")
    problem(response, 406, "not_acceptable")
    assert stored() == (0, 0, 0)


# --- A small body must not cost much ----------------------------------------------------------

_KEYS = ",".join(f'"{number}":0' for number in range(90_000))
EXPENSIVE: list[tuple[str, str]] = [
    ("a late duplicate among 90,000 keys", "{" + _KEYS + ',"89999":0}'),
    ("90,000 unknown fields", "{" + _KEYS + "}"),
    ("a long name over 200,000 items", '{"' + "k" * 400_000 + '":[' + "0," * 200_000 + "0]}"),
    ("an unknown field with a long name", '{"' + "k" * 900_000 + '":1}'),
]


@pytest.mark.parametrize("raw", [case[1] for case in EXPENSIVE], ids=[case[0] for case in EXPENSIVE])
def test_a_hostile_body_costs_little_and_is_answered_briefly(pro: Someone, raw: str) -> None:
    began = time.thread_time()
    response = pro.api.post("/v1/jobs", raw, content_type=JSON)
    assert time.thread_time() - began < 2
    problem(response, 422, "invalid_request")
    assert len(response.content) < 20_000


# --- What may look odd and is fine ------------------------------------------------------------


@pytest.mark.parametrize(
    "prompt",
    [
        "<script>alert(1)</script>",
        "'; DROP TABLE jobs_job; --",
        "=cmd|' /C calc'!A0",
        "line\r\nSet-Cookie: a=b",
        "{{7*7}} ${jndi:ldap://x}",
        "قطة على السطح",
        "a \u2067cat\u2069 and a \u202bdog\u202c",
        "नमस्ते",
        "👩‍👩‍👧‍👦",
        "x" * 10_000,
    ],
)
def test_a_prompt_is_text_and_nothing_else(pro: Someone, prompt: str) -> None:
    response = pro.api.post("/v1/jobs", body(prompt=prompt), format="json")
    assert response.status_code == 202
    kept = pro.api.get(response["Location"]).json()["prompt"]
    assert kept == prompt.replace("\r\n", "\n")
    assert "Set-Cookie" not in response


def test_metadata_comes_back_as_it_was(pro: Someone) -> None:
    metadata = {"order": "=1+1", "nested": {"list": [1, 2.5, None, True, "é"]}, "big": 2**63}
    response = pro.api.post("/v1/jobs", body(metadata=metadata), format="json")
    assert response.json()["metadata"] == metadata
    assert pro.api.get(response["Location"]).json()["metadata"] == metadata


# --- Models -----------------------------------------------------------------------------------


def test_an_unknown_model_is_404_with_alternatives(pro: Someone, stored: Stored) -> None:
    found = problem(
        pro.api.post("/v1/jobs", body(model="nope"), format="json"), 404, "model_not_found", "model"
    )
    assert found["alternatives"] == ["fast-draft", "standard", "premium"]
    assert stored() == (0, 0, 0)


def test_a_retired_model_is_410_with_alternatives(pro: Someone, stored: Stored) -> None:
    GenerationModel.objects.filter(slug="fast-draft").update(retired_at=clock.now() - timedelta(days=1))
    snapshot.forget()
    found = problem(pro.api.post("/v1/jobs", body(), format="json"), 410, "model_retired", "model")
    assert found["alternatives"] == ["standard", "premium"]
    assert stored() == (0, 0, 0)


def test_a_model_too_good_for_the_tier_is_403_with_what_is_allowed(stored: Stored) -> None:
    free = factories.someone(tier=factories.tier(max_quality=5))
    for asked in (body(model="premium"), body(fallback_models=["premium"])):
        field = "fallback_models[0]" if "fallback_models" in asked else "model"
        found = problem(free.api.post("/v1/jobs", asked, format="json"), 403, "model_not_allowed", field)
        assert found["alternatives"] == ["fast-draft"]
    assert stored() == (0, 0, 0)


def test_a_quality_beyond_the_tier_is_403_and_beyond_the_catalog_404(pro: Someone) -> None:
    free = factories.someone(tier=factories.tier(max_quality=5))
    asked = {"type": "image", "prompt": "x", "requirements": {"quality": 9}}
    problem(free.api.post("/v1/jobs", asked, format="json"), 403, "model_not_allowed", "requirements.quality")
    asked["requirements"] = {"quality": 10}
    problem(pro.api.post("/v1/jobs", asked, format="json"), 404, "model_not_found", "requirements.quality")


# --- Callback URLs ----------------------------------------------------------------------------

UNSAFE_URLS = [
    "http://example.com/hook",
    "http://169.254.169.254/latest/meta-data/",
    "https://169.254.169.254/",
    "https://169.254.170.2/",
    "https://168.63.129.16/",
    "https://100.100.100.200/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://0.0.0.0/",
    "https://255.255.255.255/",
    "https://224.0.0.1/",
    "https://198.18.0.1/",
    "https://127.0.0.1/",
    "http://127.0.0.1:8000/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://127.0.0.1./",
    "https://[::1]/",
    "https://[::]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[2002:7f00:1::]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fd00:ec2::254]/",
    "https://[fc00::1]/",
    "https://[ff02::1]/",
    "https://[2001:db8::1]/",
    "https://localhost/",
    "https://LOCALHOST:5432/",
    "https://metadata.google.internal/",
    "https://printer.local/",
    "https://intranet/",
    "https://redis:6379/",
    "https://user:password@example.com/",
    "https://example.com@127.0.0.1/",
    "https://example.com:99999/",
    "https://example.com:0/",
    "https://127.0.0.1#@example.com/",
    "https://example.com\\@127.0.0.1/",
    "https://exa mple.com/",
    "https://example.com/\r\nX-Injected: 1",
    "https://１２７.0.0.1/",
    "https://①②⑦.0.0.1/",
    "https://ⓔxample.com/",
    "https://",
    "https:///path",
    "//example.com/",
    "example.com/hook",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "dict://127.0.0.1:11211/",
    "data:text/plain,hi",
    "javascript:alert(1)",
    "unix:///var/run/docker.sock",
]


@pytest.mark.parametrize("url", UNSAFE_URLS)
def test_a_callback_that_leads_inward_is_refused(pro: Someone, stored: Stored, url: str) -> None:
    problem(
        pro.api.post("/v1/jobs", body(callback_url=url), format="json"),
        422,
        "invalid_request",
        "callback_url",
    )
    assert stored() == (0, 0, 0)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "https://example.com:8443/a/b?c=d%20e",
        "https://xn--bcher-kva.example/",
        "https://93.184.216.34/",
    ],
)
def test_a_public_https_callback_is_taken(pro: Someone, url: str) -> None:
    assert pro.api.post("/v1/jobs", body(callback_url=url), format="json").status_code == 202


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000/hook", "http://localhost:9000/", "http://[::1]:9000/"]
)
def test_a_loopback_callback_is_taken_in_development_only(
    pro: Someone, settings: LazySettings, url: str
) -> None:
    asked = body(callback_url=url)
    problem(pro.api.post("/v1/jobs", asked, format="json"), 422, "invalid_request", "callback_url")
    settings.ALLOW_LOOPBACK_TARGETS = True
    assert pro.api.post("/v1/jobs", asked, format="json").status_code == 202


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "https://169.254.169.254/", "https://[fc00::1]/"])
def test_other_private_callbacks_are_refused_in_development_too(
    pro: Someone, settings: LazySettings, url: str
) -> None:
    settings.ALLOW_LOOPBACK_TARGETS = True
    problem(
        pro.api.post("/v1/jobs", body(callback_url=url), format="json"),
        422,
        "invalid_request",
        "callback_url",
    )


# --- Headers and addresses --------------------------------------------------------------------


def test_two_keys_are_no_key(pro: Someone, stored: Stored) -> None:
    two = f"Bearer {pro.key}, Bearer {pro.key}"
    response = APIClient().post("/v1/jobs", body(), format="json", HTTP_AUTHORIZATION=two)
    problem(response, 401, "not_authenticated")
    assert stored() == (0, 0, 0)


def test_a_key_in_the_url_is_refused(pro: Someone, stored: Stored) -> None:
    for sender in (pro.api, APIClient()):
        response = sender.post(f"/v1/jobs?api_key={pro.key}", body(), format="json")
        problem(response, 401, "not_authenticated")
        assert pro.key not in response.content.decode()
    assert stored() == (0, 0, 0)


@pytest.mark.parametrize("path", ["/v1/jobs/7", "/v1/jobs/not-an-id", "/v1/nothing", "/v1/jobs/"])
def test_an_address_that_is_none_is_a_404_problem(pro: Someone, path: str) -> None:
    problem(pro.api.get(path), 404, "not_found")


def test_a_method_that_is_none_is_a_405_problem(pro: Someone) -> None:
    response = pro.api.delete("/v1/jobs")
    problem(response, 405, "method_not_allowed")
    assert response["Allow"]


def test_too_many_requests_are_told_when_to_come_back(stored: Stored) -> None:
    slow = factories.someone(tier=factories.tier(requests_per_minute=1))
    assert slow.api.get("/v1/budget").status_code == 200
    response = slow.api.post("/v1/jobs", body(), format="json")
    assert problem(response, 429, "rate_limited")["retryable"] is True
    assert 1 <= int(response["Retry-After"]) <= 60
    assert stored() == (0, 0, 0)


def test_an_error_of_ours_tells_nothing_of_us(
    pro: Someone, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(submit, "submit", fail)
    api = APIClient(raise_request_exception=False)
    response = api.post("/v1/jobs", body(), format="json", HTTP_AUTHORIZATION=f"Bearer {pro.key}")
    assert problem(response, 500, "internal_error")["retryable"] is True
    assert "secret" not in response.content.decode()
    assert stored() == (0, 0, 0)

"""Keeping files: what is accepted, how it is handed out, when it goes."""

import errno
import io
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import LazySettings
from django.core.files.storage import default_storage
from django.db import IntegrityError
from django.test import Client
from django.urls import include, path
from PIL import Image

from apps.accounts.models import Team
from apps.artifacts import store
from apps.artifacts.models import Artifact, Spooled
from apps.core import clock, http
from tests.fakes.receiver import Answer, Receiver

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]
urlpatterns = [path("v1/", include("apps.artifacts.urls"))]

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def picture(format: str = "PNG") -> bytes:  # noqa: A002
    content = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(content, format)
    return content.getvalue()


@pytest.fixture(autouse=True)
def storage(settings: LazySettings, tmp_path: Path) -> Path:
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path)},
        },
    }
    return tmp_path


@pytest.fixture
def team() -> Team:
    return Team.objects.create(name="Red")


@pytest.fixture
def kept(team: Team) -> Artifact:
    return store.fetch(team_id=team.id, data=picture(), kind="image")


@pytest.fixture
def receiver(settings: LazySettings) -> Iterator[Receiver]:
    settings.ALLOW_LOOPBACK_TARGETS = True
    with Receiver() as running:
        yield running


def files(directory: Path) -> list[Path]:
    return [found for found in directory.rglob("*") if found.is_file()]


def link(artifact_id: uuid.UUID) -> str:
    parts = urlsplit(store.signed_url(artifact_id))
    return f"{parts.path}?{parts.query}"


# --- Fetch ------------------------------------------------------------------------------------


def test_it_keeps_what_it_downloads(
    team: Team, receiver: Receiver, storage: Path, django_assert_num_queries: Any
) -> None:
    receiver.answers(Answer(body=picture("JPEG"), headers={"Content-Type": "text/html"}))
    with django_assert_num_queries(1):
        artifact = store.fetch(team_id=team.id, url=f"{receiver.url}/x.html", kind="image")
    artifact.refresh_from_db()
    assert artifact.media_type == "image/jpeg"
    assert artifact.size_bytes == len(picture("JPEG"))
    assert artifact.sha256 == sha256(picture("JPEG")).hexdigest()
    assert artifact.storage_key.endswith(f"-{artifact.sha256}.jpg")
    assert [file.read_bytes() for file in files(storage)] == [picture("JPEG")]
    with store.open(artifact.id) as content:
        assert content.read() == picture("JPEG")
    with store.local_path(artifact.id) as copy:
        assert copy.read_bytes() == picture("JPEG")


def test_the_same_bytes_twice_are_two_files(team: Team, storage: Path) -> None:
    first, second = (store.fetch(team_id=team.id, data=picture(), kind="image") for _ in range(2))
    assert first.sha256 == second.sha256
    assert first.storage_key != second.storage_key
    assert len(files(storage)) == 2


ACCEPTED = {
    ("image", "image/png"): picture("PNG"),
    ("image", "image/webp"): picture("WEBP"),
    ("video", "video/mp4"): b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2" + b"\0" * 100,
    ("video", "video/webm"): b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm" + b"\0" * 100,
    ("audio", "audio/wav"): b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 100,
    ("audio", "audio/mpeg"): b"ID3\x04" + b"\0" * 100,
    ("audio", "audio/ogg"): b"OggS" + b"\0" * 100,
    ("audio", "audio/flac"): b"fLaC" + b"\0" * 100,
    ("audio", "audio/mp4"): b"\0\0\0\x18ftypM4A \0\0\x02\0isomiso2" + b"\0" * 100,
}


@pytest.mark.parametrize(("kind", "media_type"), ACCEPTED)
def test_the_media_type_is_read_from_the_bytes(kind: str, media_type: str, team: Team) -> None:
    artifact = store.fetch(team_id=team.id, data=ACCEPTED[kind, media_type], kind=kind)
    assert artifact.media_type == media_type
    assert media_type in store.EXTENSIONS


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("image", b""),
        ("image", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
        ("image", b"<?xml version='1.0'?><svg/>"),
        ("image", b"<!DOCTYPE html><script>alert(1)</script>"),
        ("image", b"GIF89a" + b"\0" * 50),
        ("image", b"%PDF-1.7"),
        ("image", b"PK\x03\x04" + b"\0" * 50),
        ("image", b'{"error": "expired"}'),
        ("image", b"\0" * 100),
        ("video", picture()),
        ("audio", picture()),
        ("image", ACCEPTED["video", "video/mp4"]),
        ("video", b"#EXTM3U\nhttp://169.254.169.254/"),
    ],
)
def test_anything_else_is_bad_media_and_leaves_nothing(
    kind: str, data: bytes, team: Team, storage: Path
) -> None:
    with pytest.raises(store.BadMedia):
        store.fetch(team_id=team.id, data=data, kind=kind)
    assert not files(storage)
    assert not Artifact.objects.exists()


def test_a_failed_download_leaves_nothing(team: Team, receiver: Receiver, storage: Path) -> None:
    receiver.answers(Answer(body=picture()[:20], length=500))
    with pytest.raises(http.FetchFailed):
        store.fetch(team_id=team.id, url=receiver.url, kind="image")
    with pytest.raises(http.UnsafeUrl):
        store.fetch(team_id=team.id, url=receiver.url, kind="image", allow_hosts={"cdn.example.com"})
    with pytest.raises(http.UnsafeUrl):
        store.fetch(team_id=team.id, url="https://169.254.169.254/latest", kind="image")
    assert not files(storage)
    assert not Artifact.objects.exists()


def test_a_file_above_the_limit_is_refused(team: Team, receiver: Receiver, settings: LazySettings) -> None:
    settings.ARTIFACT_MAX_BYTES = 20
    receiver.answers(Answer(body=picture()))
    with pytest.raises(http.FetchFailed, match="too_large"):
        store.fetch(team_id=team.id, url=receiver.url, kind="image")


def test_bytes_wait_in_the_database_for_a_storage_that_does_not_take_them(
    team: Team, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as away:
        away.setattr(type(default_storage), "save", full, raising=False)
        kept = store.fetch(team_id=team.id, data=picture(), kind="image")
        with pytest.raises(store.StoreUnavailable):
            store.open(kept.id)
    for _ in range(2):
        with store.open(kept.id) as content:
            assert content.read() == picture()
    assert not Spooled.objects.exists()


def test_the_database_refuses_an_artifact_that_cannot_be(team: Team) -> None:
    with pytest.raises(IntegrityError):
        Artifact.objects.create(
            team=team, sha256="x" * 64, media_type="image/png", size_bytes=1, storage_key="a"
        )


def test_describe_records_what_decoding_found(kept: Artifact) -> None:
    store.describe(kept.id, width=8, height=6, duration_s=None)
    kept.refresh_from_db()
    assert (kept.width, kept.height, kept.duration_s) == (8, 6, None)


# --- Links ------------------------------------------------------------------------------------


def test_a_link_stays_the_same_for_minutes_and_ends_after_its_time(
    kept: Artifact, settings: LazySettings
) -> None:
    settings.ARTIFACT_URL_TTL_S = 600
    settings.PUBLIC_URL = "https://gen.example.com"
    with clock.frozen(NOON + timedelta(seconds=1)):
        url = store.signed_url(kept.id)
    with clock.frozen(NOON + timedelta(seconds=299)):
        assert store.signed_url(kept.id) == url
    with clock.frozen(NOON + timedelta(seconds=301)):
        assert store.signed_url(kept.id) != url
    assert url.startswith(f"https://gen.example.com/v1/artifacts/{kept.id}?expires=")
    query = dict(pair.split("=") for pair in urlsplit(url).query.split("&"))
    with clock.frozen(NOON + timedelta(seconds=899)):
        assert store.reader_of(kept.id, **query) == store.CLIENT
        assert not store.reader_of(uuid.uuid4(), **query)
        assert not store.reader_of(kept.id, query["expires"], query["signature"][:-1])
        later = str(int(query["expires"]) + 300)
        assert not store.reader_of(kept.id, later, query["signature"])
    with clock.frozen(NOON + timedelta(seconds=900)):
        assert store.reader_of(kept.id, **query) is None


def test_the_file_is_served_so_that_no_browser_runs_it(client: Client, kept: Artifact) -> None:
    answer = client.get(link(kept.id))
    assert answer.status_code == 200
    assert answer.getvalue() == picture()
    assert answer["Content-Type"] == "image/png"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert answer["Content-Disposition"] == f'inline; filename="{kept.id}.png"'
    assert answer["Content-Length"] == str(len(picture()))
    assert answer["ETag"] == f'"{kept.sha256}"'
    assert answer["Cache-Control"].startswith("private")


def test_head_has_the_headers_and_no_body(client: Client, kept: Artifact) -> None:
    answer = client.head(link(kept.id))
    assert answer.status_code == 200
    assert answer["Content-Length"] == str(len(picture()))
    assert answer.content == b""


def test_a_known_etag_is_not_sent_again(client: Client, kept: Artifact) -> None:
    answer = client.get(link(kept.id), headers={"if-none-match": f'"{kept.sha256}"'})
    assert answer.status_code == 304


@pytest.mark.parametrize("query", ["", "expires=1&signature=x", "expires=9999999999&signature=", "expires=x"])
def test_a_link_without_a_good_signature_costs_no_query(
    client: Client, kept: Artifact, query: str, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        answer = client.get(f"/v1/artifacts/{kept.id}?{query}")
    assert answer.status_code == 403
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "invalid_signature"


def test_a_link_is_good_for_one_artifact_only(client: Client, kept: Artifact, team: Team) -> None:
    other = store.fetch(team_id=team.id, data=picture(), kind="image")
    assert client.get(link(kept.id).replace(str(kept.id), str(other.id))).status_code == 403


def test_an_unknown_artifact_is_not_found(client: Client) -> None:
    assert client.get(link(uuid.uuid4())).status_code == 404


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_only_reading_is_allowed(client: Client, kept: Artifact, method: str) -> None:
    assert getattr(client, method)(link(kept.id)).status_code == 405


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=10-", 206, 10, None),
        ("bytes=0-", 206, 0, None),
        ("bytes=-5", 206, -5, None),
        ("bytes=-99999", 206, 0, None),
        ("bytes=5-99999", 206, 5, None),
        ("bytes=9-5", 200, 0, None),
        ("bytes=0-1,3-4", 200, 0, None),
        ("bytes=-", 200, 0, None),
        ("lines=1-2", 200, 0, None),
    ],
)
def test_a_player_can_seek(
    client: Client, kept: Artifact, asked: str, status: int, start: int, stop: int | None
) -> None:
    answer = client.get(link(kept.id), headers={"range": asked})
    expected = picture()[start:stop]
    assert (answer.status_code, answer.getvalue()) == (status, expected)
    assert answer["Content-Length"] == str(len(expected))
    if status == 206:
        first = start % len(picture())
        assert answer["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/{len(picture())}"


@pytest.mark.parametrize("asked", ["bytes=99999-", "bytes=-0"])
def test_a_range_outside_the_file_is_not_satisfiable(client: Client, kept: Artifact, asked: str) -> None:
    answer = client.get(link(kept.id), headers={"range": asked})
    assert (answer.status_code, answer["Content-Range"]) == (416, f"bytes */{len(picture())}")


def test_a_range_of_a_changed_file_is_the_whole_file(client: Client, kept: Artifact) -> None:
    answer = client.get(link(kept.id), headers={"range": "bytes=0-1", "if-range": '"other"'})
    assert answer.getvalue() == picture()


def test_a_remote_storage_serves_its_own_files(
    client: Client, kept: Artifact, settings: LazySettings
) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "bucket_name": "outputs",
                "access_key": "a",
                "secret_key": "b",
                "region_name": "eu-west-1",
                "endpoint_url": "http://127.0.0.1:9",
                "querystring_expire": 60,
            },
        },
    }
    answer = client.get(link(kept.id))
    assert answer.status_code == 302
    assert kept.storage_key in answer["Location"]
    assert "Expires" in answer["Location"]


# --- The end ----------------------------------------------------------------------------------


def test_expired_files_go_and_their_rows_stay(client: Client, team: Team, storage: Path) -> None:
    with clock.frozen(NOON):
        short = store.fetch(
            team_id=team.id, data=picture(), kind="image", expires_at=NOON + timedelta(hours=1)
        )
        store.fetch(team_id=team.id, data=picture(), kind="image", expires_at=NOON + timedelta(days=1))
        store.fetch(team_id=team.id, data=picture(), kind="image")
        assert store.expire() == 0
    with clock.frozen(NOON + timedelta(hours=1)):
        assert client.get(link(short.id)).status_code == 410
        assert store.expire() == 1
        assert store.expire() == 0
        assert client.get(link(short.id)).json()["code"] == "artifact_gone"
    assert len(files(storage)) == 2
    short.refresh_from_db()
    assert short.deleted_at == NOON + timedelta(hours=1)


def test_an_interrupted_sweep_is_finished_by_the_next(team: Team, storage: Path) -> None:
    expired = store.fetch(
        team_id=team.id, data=picture(), kind="image", expires_at=clock.now() - timedelta(seconds=1)
    )
    default_storage.delete(expired.storage_key)  # killed before the row was marked
    assert store.expire() == 1


def test_a_lost_file_is_gone(client: Client, kept: Artifact) -> None:
    default_storage.delete(kept.storage_key)
    assert client.get(link(kept.id)).status_code == 410

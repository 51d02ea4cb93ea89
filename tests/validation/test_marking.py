"""Every format that can say so says that a model made it, still opens, and shows when it was changed."""

import io
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from apps.core import clock
from apps.validation import output
from apps.validation.marking import certificate, credentials, mark, xmp
from tests.validation import media

pytestmark = pytest.mark.django_db  # the takedown list

SIZE = (160, 128)


@pytest.fixture(autouse=True)
def _own_certificate(settings: Any, tmp_path: Path) -> None:
    settings.MARK_DIR = str(tmp_path / "marking")


def made(folder: Path, media_type: str) -> bytes:
    kind, _, name = media_type.partition("/")
    if kind == "image":
        return media.picture(name.upper(), SIZE)
    if kind == "video":
        codec = {"mp4": "mpeg4", "webm": "libvpx-vp9"}[name]
        return media.clip(folder / f"a.{name}", size=(64, 64), codec=codec).read_bytes()
    codec = {"wav": "pcm_s16le", "mpeg": "mp3", "mp4": "aac", "flac": "flac", "ogg": "libopus"}[name]
    ending = {"mpeg": "mp3", "mp4": "m4a"}.get(name, name)
    return media.tone(folder / f"a.{ending}", codec=codec).read_bytes()


def marked(folder: Path, content: bytes, media_type: str) -> mark.Marked:
    (folder / "file").write_bytes(content)
    return mark.mark(folder / "file", media_type)


@pytest.mark.parametrize("media_type", sorted(credentials.MEDIA_TYPES))
def test_a_marked_file_is_valid_still_opens_and_a_change_shows(tmp_path: Path, media_type: str) -> None:
    content = made(tmp_path, media_type)
    assert credentials.state(content, media_type) != "valid"
    result = marked(tmp_path, content, media_type)
    assert result.credentials == credentials.state(result.content, media_type) == "valid"
    assert result.xmp is (media_type in xmp._WRITERS)
    assert len(result.content) - len(content) < 6000, "no preview inside"
    (tmp_path / "marked").write_bytes(result.content)
    kind = media_type.partition("/")[0]
    assert output.check(tmp_path / "marked", kind=kind, media_type=media_type, requested={}).passed
    changed = bytearray(result.content)
    changed[content.rfind(b"IDAT") if media_type == "image/png" else -8] ^= 1
    assert credentials.state(bytes(changed), media_type) != "valid"


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "image/webp"])
def test_marking_changes_no_pixel_and_pillow_reads_the_property(tmp_path: Path, media_type: str) -> None:
    content = made(tmp_path, media_type)
    before, after = (
        Image.open(io.BytesIO(each)) for each in (content, marked(tmp_path, content, media_type).content)
    )
    assert before.convert("RGBA").tobytes() == after.convert("RGBA").tobytes()
    found = after.info.get("xmp") or after.info["XML:com.adobe.xmp"]
    text = found.decode() if isinstance(found, bytes) else str(found)
    assert "trainedAlgorithmicMedia" in text


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_with_alpha_keeps_it(tmp_path: Path, lossless: bool) -> None:
    image = media.scene(SIZE).convert("RGBA")
    image.putalpha(120)
    coded = io.BytesIO()
    image.save(coded, "WEBP", lossless=lossless)
    result = marked(tmp_path, coded.getvalue(), "image/webp")
    assert Image.open(io.BytesIO(result.content)).convert("RGBA").getchannel("A").getextrema() == (120, 120)


@pytest.mark.parametrize("media_type", ["video/webm", "audio/ogg"])
def test_a_format_without_a_place_for_it_is_left_as_it_is(tmp_path: Path, media_type: str) -> None:
    content = made(tmp_path, media_type)
    assert marked(tmp_path, content, media_type) == mark.Marked(content, "unsupported", False)


def test_what_is_marked_is_not_marked_again(tmp_path: Path) -> None:
    once = marked(tmp_path, made(tmp_path, "image/png"), "image/png")
    assert marked(tmp_path, once.content, "image/png") == once


def test_a_broken_file_is_not_marked(tmp_path: Path) -> None:
    with pytest.raises(credentials.NotMarked):
        marked(tmp_path, b"\xff\xd8\xff\xe0\x00", "image/jpeg")


def test_the_development_certificate_is_made_once_and_the_operators_is_preferred(
    tmp_path: Path, settings: Any
) -> None:
    certificate.pair.cache_clear()
    chain, key = certificate.pair()
    certificate.pair.cache_clear()
    assert certificate.pair() == (chain, key)
    assert chain.count(b"BEGIN CERTIFICATE") == 2
    (tmp_path / "chain.pem").write_bytes(chain)
    (tmp_path / "key.pem").write_bytes(key)
    settings.MARK_DIR = str(tmp_path / "elsewhere")
    settings.MARK_CERTIFICATE, settings.MARK_PRIVATE_KEY = f"{tmp_path}/chain.pem", f"{tmp_path}/key.pem"
    certificate.pair.cache_clear()
    assert certificate.pair() == (chain, key)
    assert not Path(settings.MARK_DIR).exists()
    certificate.pair.cache_clear()


@pytest.mark.parametrize("days", [40, -4000])
def test_a_clock_that_was_wrong_at_the_first_run_spoils_no_mark_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    monkeypatch.setattr(credentials, "_local", threading.local())
    certificate.pair.cache_clear()
    with clock.frozen(clock.now() + timedelta(days=days)):
        certificate.pair()
    content = made(tmp_path, "image/png")
    assert marked(tmp_path, content, "image/png").credentials == "valid"
    certificate.pair.cache_clear()

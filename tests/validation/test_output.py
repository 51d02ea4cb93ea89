"""An output is accepted only if it decodes to its end and is what was asked for."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from apps.validation import output
from apps.validation.checks.results import CheckResult, MediaInfo
from tests.validation import media

pytestmark = pytest.mark.django_db  # the takedown list

PICTURES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}

RECORDINGS: dict[str, tuple[str, str, Callable[[Path], Path]]] = {
    "video/mp4": ("video", "a.mp4", media.clip),
    "video/webm": ("video", "a.webm", lambda path: media.clip(path, codec="libvpx-vp9")),
    "audio/wav": ("audio", "a.wav", media.tone),
    "audio/mpeg": ("audio", "a.mp3", lambda path: media.tone(path, codec="mp3")),
    "audio/ogg": ("audio", "a.ogg", lambda path: media.tone(path, codec="libopus")),
    "audio/flac": ("audio", "a.flac", lambda path: media.tone(path, codec="flac")),
    "audio/mp4": ("audio", "a.m4a", lambda path: media.tone(path, codec="aac")),
}


def judge(
    path: Path, content: bytes | None = None, *, media_type: str = "image/png", **requested: Any
) -> output.Report:
    if content is not None:
        path.write_bytes(content)
    return output.check(path, kind=media_type.split("/")[0], media_type=media_type, requested=requested)


def reason(report: output.Report) -> str:
    """Why it failed. Every failure here is hard and scores nothing."""
    assert not report.passed
    assert (report.checks[0].status, report.checks[0].hard, report.score) == ("failed", True, 0.0)
    return "; ".join(report.checks[0].details["problems"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "output"


# --- Pictures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", PICTURES)
def test_a_whole_picture_passes(path: Path, media_type: str) -> None:
    report = judge(path, media.picture(PICTURES[media_type]), media_type=media_type, width=64, height=48)
    assert report.passed, report.checks
    assert report.score
    assert report.score > 0.7
    assert report.media == MediaInfo(64, 48, None)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("media_type", PICTURES)
def test_a_truncated_picture_fails(path: Path, media_type: str, share: float) -> None:
    whole = media.picture(PICTURES[media_type])
    text = reason(judge(path, whole[: int(len(whole) * share)], media_type=media_type))
    assert str(path) not in text


def test_a_picture_of_another_type_than_sniffed_fails(path: Path) -> None:
    reason(judge(path, media.picture("JPEG"), media_type="image/png"))
    reason(judge(path, media.picture("GIF"), media_type="image/gif"))


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"garbage", b"<svg xmlns='x'/>"])
def test_garbage_fails(path: Path, content: bytes) -> None:
    reason(judge(path, content))


@pytest.mark.parametrize(("side", "why"), [(8_100, "too many"), (60_000, "bomb")])
def test_a_bomb_is_refused_before_it_is_decoded(path: Path, side: int, why: str) -> None:
    """A few bytes that announce up to 10 GB of pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1_000_000)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    report = judge(path, bomb)
    assert why in reason(report)
    assert report.checks[0].duration_ms < 100


def test_an_animation_is_not_a_picture(path: Path) -> None:
    content, frames = io.BytesIO(), [Image.new("RGB", (9, 9), color) for color in ("red", "blue")]
    frames[0].save(content, "WEBP", save_all=True, append_images=frames[1:])
    assert "animated" in reason(judge(path, content.getvalue(), media_type="image/webp"))


@pytest.mark.parametrize(
    ("requested", "passed"),
    [
        ({"width": 64, "height": 48}, True),
        ({"width": 66}, True),
        ({"width": 128}, False),
        ({"height": 24}, False),
        ({"width": 48, "height": 64}, False),
        ({"width": None, "seed": 7}, True),
    ],
)
def test_the_size_is_what_was_asked_for(path: Path, requested: dict[str, Any], passed: bool) -> None:
    report = judge(path, media.picture(), **requested)
    assert report.passed is passed
    assert report.media == MediaInfo(64, 48, None)


# --- Recordings -------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", RECORDINGS)
def test_a_whole_recording_passes(tmp_path: Path, media_type: str) -> None:
    kind, name, make = RECORDINGS[media_type]
    report = judge(make(tmp_path / name), media_type=media_type, duration_s=1)
    assert report.passed, report.checks
    assert report.media
    assert report.media.duration_s == pytest.approx(1, abs=0.06)
    assert (report.media.width, report.media.height) == ((64, 48) if kind == "video" else (None, None))


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("media_type", RECORDINGS)
def test_a_truncated_recording_fails(tmp_path: Path, media_type: str, share: float) -> None:
    _, name, make = RECORDINGS[media_type]
    whole = make(tmp_path / name).read_bytes()
    text = reason(judge(tmp_path / "cut", whole[: int(len(whole) * share)], media_type=media_type))
    assert str(tmp_path) not in text


def test_a_damaged_video_fails(tmp_path: Path) -> None:
    content = bytearray(media.clip(tmp_path / "a.mp4").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = b"\x5a" * 200
    reason(judge(tmp_path / "damaged", bytes(content), media_type="video/mp4"))


def test_the_duration_is_what_was_asked_for(tmp_path: Path) -> None:
    clip = media.clip(tmp_path / "a.mp4", duration_s=1)
    assert "lasts" in reason(judge(clip, media_type="video/mp4", duration_s=2))
    assert judge(clip, media_type="video/mp4", duration_s=1.2).passed


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    sound = media.tone(tmp_path / "a.m4a", codec="aac")
    assert "no video" in reason(judge(sound, media_type="video/mp4"))


def test_a_long_recording_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.validation.checks.decode.MAX_DURATION_S", 0.5)
    assert "too long" in reason(judge(media.clip(tmp_path / "a.mp4"), media_type="video/mp4"))


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    """HLS and concat scripts make FFmpeg fetch what they name."""
    clip = media.clip(tmp_path / "a.mp4")
    playlist = f"#EXTM3U\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n".encode()
    for media_type in ("video/mp4", "video/webm", "audio/mpeg"):
        reason(judge(tmp_path / "list", playlist, media_type=media_type))
    reason(judge(tmp_path / "list", f"ffconcat version 1.0\nfile {clip}\n".encode(), media_type="video/mp4"))


# --- The report -------------------------------------------------------------------------------


def test_the_report_is_json(path: Path) -> None:
    report = json.loads(json.dumps(judge(path, media.picture()).to_json()))
    assert report["passed"] is True
    assert report["coverage"] == "2 of 4"
    assert report["checks"][0]["name"] == "technical_quality"
    assert report["checks"][0]["version"] == "technical-2"


def test_a_skipped_check_counts_neither_for_nor_against() -> None:
    passed = CheckResult("a", "passed", True, 0.8)
    skipped = CheckResult("b", "skipped", None, None)
    report = output.make_report((passed, skipped), None)
    assert (report.passed, report.score, report.to_json()["coverage"]) == (True, 0.8, "1 of 2")
    assert output.make_report((skipped,), None).score is None
    assert not output.make_report((passed, CheckResult("c", "error", None, None)), None).passed


def test_a_web_process_does_not_load_what_the_checks_need() -> None:
    """Pillow, OpenCV, FFmpeg and the rest belong to the workers: they would double a web process."""
    program = (
        "import sys, django; django.setup(); import genplatform.wsgi, genplatform.urls; "
        "from django.urls import get_resolver; get_resolver().url_patterns; "
        "heavy = ('PIL', 'av', 'numpy', 'cv2', 'c2pa', 'onnxruntime', 'tokenizers', 'nudenet'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "genplatform.settings"}
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env
    )
    assert found.stdout.strip() == "[]"

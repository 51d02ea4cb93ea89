"""How well the checks tell good outputs from broken ones, what they cost, and that no file brings them down."""

import io
import random
import resource
import time
from pathlib import Path
from typing import Any

import av
import numpy
import pytest
from PIL import Image

from apps.validation import output
from apps.validation.checks import picture
from apps.validation.checks.results import Standard
from tests.validation import media, photos

pytestmark = pytest.mark.django_db  # the takedown list

AUC, CLEAN_ACCEPTED = 0.95, 0.95
IMAGE_CPU_S, VIDEO_CPU_S = 0.6, 1.2
MAX_CHECK_S, MAX_GROWTH_MB = 10, 200


def judge(path: Path, kind: str = "image", media_type: str = "image/png", **requested: Any) -> output.Report:
    return output.check(path, kind=kind, media_type=media_type, requested=requested)


def of_picture(path: Path, image: Image.Image, **requested: Any) -> output.Report:
    path.write_bytes(photos.png(image))
    return judge(path, **requested)


def score(report: output.Report) -> float:
    return report.checks[0].score or 0.0


# --- Pictures ---------------------------------------------------------------------------------


def test_good_pictures_are_told_from_spoiled_ones(tmp_path: Path) -> None:
    """The area under the ROC curve: how often a good picture scores above a spoiled one."""
    good, spoiled, accepted, passed_useless = [], [], 0, []
    for name, image in photos.clean():
        report = of_picture(tmp_path / "a", image)
        good.append(score(report))
        accepted += report.passed
        spoiled += [score(of_picture(tmp_path / "a", spoil(image))) for spoil in photos.UGLY.values()]
        for fault, spoil in photos.USELESS.items():
            useless = of_picture(tmp_path / "a", spoil(image))
            spoiled.append(score(useless))
            passed_useless += [(name, fault)] if useless.passed else []
    above = sum((a > b) + 0.5 * (a == b) for a in good for b in spoiled)
    assert above / len(good) / len(spoiled) >= AUC
    assert accepted / len(good) >= CLEAN_ACCEPTED
    assert passed_useless == []


def test_a_useless_picture_is_refused_for_what_it_is(tmp_path: Path) -> None:
    black = of_picture(tmp_path / "a", photos.plain(0, 0, 0)(photos.render(1)))
    assert (black.passed, black.score, black.checks[0].hard) == (False, 0.0, True)
    assert "content" in black.checks[0].problems
    half = of_picture(tmp_path / "a", photos.half_grey(photos.render(1)))
    assert "fill" in half.checks[0].problems


def test_a_wholly_transparent_picture_shows_nothing(tmp_path: Path) -> None:
    image = photos.render(1).convert("RGBA")
    image.putalpha(0)
    assert not of_picture(tmp_path / "a", image).passed
    image.putalpha(200)
    assert of_picture(tmp_path / "a", image).passed


def test_colours_of_one_brightness_are_something_to_see(tmp_path: Path) -> None:
    corners = Image.frombytes("RGB", (2, 2), bytes([236, 60, 236, 40, 180, 134, 40, 180, 134, 236, 60, 236]))
    even = corners.resize((64, 64), Image.Resampling.BILINEAR)
    assert numpy.ptp(numpy.asarray(even.convert("L"))) <= 2
    assert of_picture(tmp_path / "a.png", even).passed


def by(standard: Standard, path: Path, image: Image.Image) -> output.Report:
    path.write_bytes(photos.png(image))
    return output.check(path, kind="image", media_type="image/png", requested={}, standard=standard)


def test_how_ugly_a_picture_may_be_is_the_standards_word(tmp_path: Path) -> None:
    noisy = photos.noise(50)(photos.render(1))
    strict = by(Standard(min_technical=0.4), tmp_path / "a", noisy)
    failed = strict.checks[0]
    assert (strict.passed, failed.status, failed.hard) == (False, "failed", False)
    assert failed.score
    assert "noise" in failed.problems
    assert by(Standard(), tmp_path / "a", noisy).passed
    blurred_too = photos.jpeg(5)(photos.blur(8)(noisy))
    assert score(by(Standard(), tmp_path / "a", blurred_too)) < 0.3


def test_in_shadow_a_soft_failure_is_reported_and_refuses_nothing(tmp_path: Path) -> None:
    shadow = Standard(min_technical=0.4, shadow=frozenset({"technical_quality"}))
    ugly = by(shadow, tmp_path / "a", photos.noise(50)(photos.render(1)))
    assert (ugly.passed, ugly.checks[0].status, ugly.checks[0].shadow) == (True, "failed", True)
    black = by(shadow, tmp_path / "a", Image.new("RGB", (512, 512)))
    assert not black.passed, "nobody can use a black picture"


def test_checking_and_marking_a_picture_of_a_megapixel_cost_little(tmp_path: Path, settings: Any) -> None:
    settings.MARK_DIR = str(tmp_path / "marking")
    path = tmp_path / "a"
    path.write_bytes(photos.png(photos.render(1, 1024)))
    for bar_s in (60, IMAGE_CPU_S):  # the first time the libraries are loaded
        began = time.process_time()
        report, content = output.marked(judge(path), path, media_type="image/png")
        assert time.process_time() - began <= bar_s
    assert report.passed
    assert content


def test_small_pictures_are_not_judged_by_their_focus() -> None:
    assert set(picture.measure(photos.render(1, 64))) == {"content", "exposure", "fill", "noise"}


# --- Films ------------------------------------------------------------------------------------


def test_a_film_that_moves_passes_and_one_that_stands_still_fails(tmp_path: Path) -> None:
    moving = media.clip(tmp_path / "a.mp4", duration_s=2, size=(320, 240))
    assert judge(moving, "video", "video/mp4", duration_s=2).passed
    still = media.clip(tmp_path / "b.mp4", duration_s=2, size=(320, 240), moving=False)
    report = judge(still, "video", "video/mp4")
    assert (report.passed, report.checks[0].hard) == (False, True)
    assert "stands still" in report.checks[0].problems


def test_a_black_film_fails(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(20):
            black = number < 14
            image: Any = Image.new("RGB", (320, 240)) if black else media.scene((320, 240), number / 20)
            container.mux(stream.encode(av.VideoFrame.from_image(image)))  # type: ignore[no-untyped-call]
        container.mux(stream.encode())
    assert "70% of it is black" in judge(tmp_path / "a.mp4", "video", "video/mp4").checks[0].problems


def test_a_film_with_too_few_frames_a_second_fails(tmp_path: Path) -> None:
    clip = media.clip(tmp_path / "a.mp4", duration_s=2, size=(320, 240))
    assert judge(clip, "video", "video/mp4", fps=10).passed
    assert "not 24" in judge(clip, "video", "video/mp4", fps=24).checks[0].problems


def test_five_seconds_of_720p_cost_little(tmp_path: Path) -> None:
    clip = media.clip(tmp_path / "a.mp4", duration_s=5, size=(1280, 720))
    began = time.process_time()
    assert judge(clip, "video", "video/mp4", duration_s=5).passed
    assert time.process_time() - began <= VIDEO_CPU_S


# --- Sounds -----------------------------------------------------------------------------------


def test_a_tone_passes_with_its_loudness(tmp_path: Path) -> None:
    tone = judge(media.tone(tmp_path / "a.wav", duration_s=3), "audio", "audio/wav")
    assert tone.passed
    assert tone.checks[0].details["lufs"] == pytest.approx(-15, abs=2)


def test_silence_fails_and_has_no_loudness(tmp_path: Path) -> None:
    report = judge(media.tone(tmp_path / "a.wav", duration_s=3, amplitude=0), "audio", "audio/wav")
    assert "100% of it is silent" in report.checks[0].problems
    assert report.checks[0].details["lufs"] is None


def test_clipped_sound_fails(tmp_path: Path) -> None:
    report = judge(media.tone(tmp_path / "a.wav", amplitude=60_000), "audio", "audio/wav")
    assert "clipped" in report.checks[0].problems


# --- Whatever comes ---------------------------------------------------------------------------

_MUTATIONS = 12


def seeds(folder: Path) -> list[tuple[str, str, bytes]]:
    pictures = (("image/png", "PNG"), ("image/jpeg", "JPEG"), ("image/webp", "WEBP"))
    found = [("image", media_type, media.picture(name, (160, 128))) for media_type, name in pictures]
    recordings: tuple[tuple[str, str, Any], ...] = (
        ("video", "video/mp4", lambda path: media.clip(path, size=(64, 64))),
        ("video", "video/webm", lambda path: media.clip(path, size=(64, 64), codec="libvpx-vp9")),
        ("audio", "audio/wav", media.tone),
        ("audio", "audio/mpeg", lambda path: media.tone(path, codec="mp3")),
        ("audio", "audio/ogg", lambda path: media.tone(path, codec="libopus")),
        ("audio", "audio/flac", lambda path: media.tone(path, codec="flac")),
        ("audio", "audio/mp4", lambda path: media.tone(path, codec="aac")),
    )
    for kind, media_type, make in recordings:
        ending = {"audio/mpeg": "mp3", "audio/mp4": "m4a"}.get(media_type, media_type.partition("/")[2])
        found.append((kind, media_type, make(folder / f"seed.{ending}").read_bytes()))
    return found


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A cut, flipped bytes, a hole, a repeated or an inserted part."""
    data = bytearray(content)
    start = rng.randrange(len(data))
    length = min(len(data) - start, rng.choice((1, 4, 64, 1024)))
    match rng.randrange(5):
        case 0:
            del data[start:]
        case 1:
            for _ in range(rng.choice((1, 8, 64))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 2:
            data[start : start + length] = bytes(length)
        case 3:
            data[start:start] = data[start : start + length]
        case _:
            data[start:start] = rng.randbytes(length)
    return bytes(data)


def survive(folder: Path, times: int) -> None:
    """Every mutation gets a report, soon, and none leaves memory behind."""
    rng, path = random.Random(7), folder / "mutation"
    before_kb = 0
    for kind, media_type, content in seeds(folder):
        for _ in range(times):
            path.write_bytes(mutated(content, rng))
            began = time.monotonic()
            report = judge(path, kind, media_type)
            assert time.monotonic() - began < MAX_CHECK_S
            assert report.checks[0].status in ("passed", "failed")
        before_kb = before_kb or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert grown_kb / 1024 < MAX_GROWTH_MB


def test_no_damaged_file_crashes_hangs_or_fills_the_memory(tmp_path: Path) -> None:
    survive(tmp_path, _MUTATIONS)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_no_damaged_file_of_two_thousand_does(tmp_path: Path) -> None:
    survive(tmp_path, 200)


def test_a_cut_file_of_any_kind_is_never_accepted(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    for kind, media_type, content in seeds(tmp_path):
        for share in (0.05, 0.3, 0.6, 0.9):
            path.write_bytes(content[: int(len(content) * share)])
            # What was asked for is known: a stream that ends early is shorter than that.
            asked = {} if kind == "image" else {"duration_s": 1}
            report = judge(path, kind, media_type, **asked)
            if kind != "image" and share == 0.9:
                continue  # within the tolerance of a duration
            assert not report.passed, (media_type, share)


def test_bytes_that_are_nothing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise"
    for kind, media_type, _ in seeds(tmp_path):
        path.write_bytes(random.Random(3).randbytes(5000))
        assert not judge(path, kind, media_type).passed
    path.write_bytes(io.BytesIO().getvalue())
    assert not judge(path).passed

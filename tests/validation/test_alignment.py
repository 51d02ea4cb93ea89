"""Does the picture show the prompt? With a model it is asked; without one nothing is claimed."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from apps.validation import output
from apps.validation.checks import alignment, decode
from apps.validation.checks.results import CheckResult, Standard, Subject
from tests.validation import clip, media, photos

RED, BLUE = (220, 10, 10), (10, 10, 220)


@pytest.fixture
def model(tmp_path: Path, settings: Any) -> Path:
    folder = clip.make(tmp_path / "clip")
    settings.CLIP_MODEL_DIR = str(folder)
    return folder


def asked(folder: Path, colour: tuple[int, int, int], prompt: str, **standard: Any) -> CheckResult:
    path = folder / "picture.png"
    path.write_bytes(photos.png(Image.new("RGB", (64, 64), colour)))
    return alignment.check(Subject(path, "image", "image/png", {}, prompt, Standard(**standard)))


def test_the_right_picture_passes_and_the_wrong_one_fails(tmp_path: Path, model: Path) -> None:
    right, wrong = asked(tmp_path, RED, "red"), asked(tmp_path, BLUE, "red")
    assert (right.status, right.score) == ("passed", 1.0)
    assert wrong.status == "failed"
    assert wrong.score is not None
    assert wrong.score < 0.2
    assert "does not show" in wrong.problems
    assert not wrong.hard, "another provider may draw it"


def test_the_score_is_two_and_a_half_cosines_by_a_named_model(tmp_path: Path, model: Path) -> None:
    found = asked(tmp_path, BLUE, "red")
    assert found.score == pytest.approx(2.5 * found.details["cosine"], abs=0.001)
    assert found.details["definition"] == "clipscore-2.5"
    assert found.details["model_sha256"] == hashlib.sha256((model / "model.onnx").read_bytes()).hexdigest()


def test_how_much_has_to_match_is_the_standards_word(tmp_path: Path, model: Path) -> None:
    assert asked(tmp_path, BLUE, "red", min_alignment=0.05).status == "passed"


def test_a_long_prompt_is_scored_by_its_sentences(tmp_path: Path, model: Path) -> None:
    long = "red " * 50 + ". " + "red " * 50 + "."
    assert asked(tmp_path, RED, long).status == "passed"


def filmed(path: Path, *colours: str, prompt: str) -> CheckResult:
    media.colours(path, *colours)
    return alignment.check(Subject(path, "video", "video/mp4", {}, prompt))


def test_a_film_is_scored_by_the_mean_of_its_stills(tmp_path: Path, model: Path) -> None:
    right = filmed(tmp_path / "right.mp4", "red", "red", "red", "red", "red", prompt="red")
    wrong = filmed(tmp_path / "wrong.mp4", "blue", prompt="red")
    mixed = filmed(tmp_path / "mixed.mp4", "blue", "blue", "blue", "blue", "red", prompt="red")
    assert (right.status, right.details["pictures"]) == ("passed", 5)
    assert wrong.status == "failed"
    one, none = right.details["cosine"], wrong.details["cosine"]
    assert mixed.details["cosine"] == pytest.approx((one + 4 * none) / 5, abs=0.02)


@pytest.mark.parametrize("frames", [1, 2, 7, 25, 90])
def test_a_film_of_any_length_gives_a_few_stills_in_order(tmp_path: Path, frames: int) -> None:
    shades = (Image.new("RGB", (64, 48), (round(250 * n / frames),) * 3) for n in range(frames))
    path = media.film(tmp_path / "a.mp4", shades)
    stills = decode.pictures(Subject(path, "video", "video/mp4", {}))
    assert len(stills) == min(frames, 5)
    greys = [image.convert("L").resize((1, 1)).getpixel((0, 0)) for image in stills]
    assert greys == sorted(greys)
    if frames > 5:
        assert greys[0] < 60 < 190 < greys[-1], "of the whole film"


def test_a_recording_of_sound_is_not_compared(tmp_path: Path, model: Path) -> None:
    found = alignment.check(Subject(tmp_path / "none.wav", "audio", "audio/wav", {}, "a bell"))
    assert (found.status, found.details["why"]) == ("skipped", "not made of audio")


@pytest.mark.django_db
def test_without_a_model_it_is_skipped_and_the_coverage_says_so(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(photos.png(photos.render(1, 128)))
    report = output.check(path, kind="image", media_type="image/png", requested={}, prompt="a lighthouse")
    skipped = next(check for check in report.checks if check.name == "content_alignment")
    assert (skipped.status, skipped.passed, skipped.score) == ("skipped", None, None)
    assert report.passed
    assert report.coverage == "2 of 4"


@pytest.mark.django_db
def test_with_a_model_it_counts(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(photos.png(photos.render(1, 128)))
    report = output.check(path, kind="image", media_type="image/png", requested={}, prompt="green")
    assert report.coverage == "3 of 4"
    assert report.score
    assert report.score < 1

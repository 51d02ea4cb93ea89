"""Is it safe to show? By the detector's own arithmetic with a model made here, and by its real weights where they are
installed."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from apps.validation import nudity as detector
from apps.validation import service
from apps.validation.checks import safety
from apps.validation.checks.results import CheckResult, Standard, Subject
from tests.fakes.receiver import Receiver
from tests.jobs.test_policy import opinion
from tests.validation import media, nudity, photos


@pytest.fixture
def model(tmp_path: Path, settings: Any) -> None:
    settings.NUDENET_MODEL = str(nudity.make(tmp_path / "model.onnx"))


def asked(folder: Path, colour: str, size: tuple[int, int] = (64, 64), **standard: Any) -> CheckResult:
    path = folder / "picture.png"
    path.write_bytes(photos.png(Image.new("RGB", size, colour)))
    return safety.check(Subject(path, "image", "image/png", {}, "", Standard(**standard)))


@pytest.mark.usefixtures("model")
def test_an_exposed_part_is_unsafe_and_a_face_is_not(tmp_path: Path) -> None:
    exposed, face = asked(tmp_path, "red"), asked(tmp_path, "blue")
    assert (exposed.status, exposed.hard, exposed.details["scores"]) == ("failed", True, {"nudity": 0.9})
    assert exposed.problems == "unsafe: nudity"
    assert (face.status, face.score, face.details["by"]) == ("passed", 1.0, ["nudenet"])


@pytest.mark.usefixtures("model")
def test_how_sure_it_has_to_be_is_the_standards_word(tmp_path: Path) -> None:
    assert asked(tmp_path, "red", max_unsafe=0.95).status == "passed"


@pytest.mark.usefixtures("model")
def test_a_picture_keeps_its_shape_in_the_models_square(tmp_path: Path) -> None:
    """Half of the square is the picture, so half of it is red."""
    for size in ((128, 64), (64, 128)):
        assert asked(tmp_path, "red", size).details["scores"]["nudity"] == pytest.approx(0.45, abs=0.01)


@pytest.mark.usefixtures("model")
def test_a_film_is_as_unsafe_as_its_worst_still(tmp_path: Path) -> None:
    shown = ("blue", "blue", "blue", "red", "blue")
    for colours, status in ((shown, "failed"), (("blue",) * 5, "passed")):
        path = media.film(tmp_path / f"{status}.mp4", _squares(colours), size=(64, 64))
        assert safety.check(Subject(path, "video", "video/mp4", {})).status == status


def test_each_still_of_a_film_is_shown_to_the_moderation_service(tmp_path: Path, settings: Any) -> None:
    path = media.film(tmp_path / "a.mp4", _squares(("blue",) * 5), size=(64, 64))
    with Receiver() as running:
        settings.MODERATION_URL = f"{running.url}/v1/moderations"
        running.answers(opinion(violence=0.1), opinion(violence=0.9), *[opinion(violence=0.2)] * 3)
        found = safety.check(Subject(path, "video", "video/mp4", {}))
        service.close()
    assert (found.status, found.problems, len(running.requests)) == ("failed", "unsafe: violence", 5)
    assert found.details["scores"] == {"violence": 0.9}
    shown = json.loads(running.requests[0].body)["input"][0]["image_url"]["url"]
    assert shown.startswith("data:image/jpeg;base64,")


def _squares(colours: tuple[str, ...]) -> list[Image.Image]:
    return [Image.new("RGB", (64, 64), name) for name in colours for _ in range(4)]


@pytest.mark.usefixtures("model")
def test_sound_is_skipped_and_never_passed(tmp_path: Path) -> None:
    found = safety.check(Subject(tmp_path / "none.wav", "audio", "audio/wav", {}))
    assert (found.status, found.passed, found.score) == ("skipped", None, None)


def test_the_published_weights_find_nothing_in_photographs_without_anybody(tmp_path: Path) -> None:
    if importlib.util.find_spec("nudenet") is None:
        assert not detector.is_installed()
        path = tmp_path / "picture.png"
        path.write_bytes(photos.png(Image.new("RGB", (64, 64), "red")))
        assert safety.check(Subject(path, "image", "image/png", {})).status == "skipped"
        return
    pictures = dict(photos.clean())
    assert detector.score([pictures["coffee"], pictures["rocket"], pictures["chelsea"]]) < 0.5

"""What is delivered is real media, as asked for, and the same bytes for the same order."""

import io
import wave

import av
import pytest
from PIL import Image, ImageStat

from tests.fakes.simulator import Simulator
from tests.simulator.client import Client

VIDEO = "wavespeed-ai/motion-video"
SPEECH = "wavespeed-ai/clear-speech"


@pytest.mark.parametrize(
    ("asked", "size"),
    [({}, (1024, 1024)), ({"size": "512*256"}, (512, 256)), ({"width": 300, "height": 400}, (300, 400))],
)
def test_an_image_has_the_size_asked_for(
    client: Client, asked: dict[str, object], size: tuple[int, int]
) -> None:
    image = Image.open(io.BytesIO(client.output({"prompt": "a lighthouse", **asked})))
    assert (image.format, image.size) == ("PNG", size)
    image.load()
    assert min(ImageStat.Stat(image).stddev) > 5


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("wavespeed-ai/standard", {"prompt": "a harbour", "seed": 7, "size": "256*256"}),
        (VIDEO, {"prompt": "a harbour", "seed": 7, "duration": 0.5, "size": "128*72"}),
        (SPEECH, {"prompt": "a harbour", "seed": 7, "duration": 0.5}),
    ],
)
def test_the_same_order_gives_the_same_bytes_and_another_seed_others(
    client: Client, model: str, body: dict[str, object]
) -> None:
    first, second = client.output(body, model=model), client.output(body, model=model)
    assert first == second
    assert client.output({**body, "seed": 8}, model=model) != first
    assert client.output({**body, "prompt": "a mountain"}, model=model) != first


def test_a_video_has_the_duration_and_size_asked_for(client: Client) -> None:
    data = client.output({"prompt": "waves", "duration": 2, "size": "320*180"}, model=VIDEO)
    with av.open(io.BytesIO(data)) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 320, 180)
        assert stream.frames == 24


def test_a_video_resolution_is_understood(client: Client) -> None:
    data = client.output({"prompt": "waves", "duration": 0.2, "resolution": "720p"}, model=VIDEO)
    with av.open(io.BytesIO(data)) as film:
        assert (film.streams.video[0].width, film.streams.video[0].height) == (1280, 720)


def test_a_sound_has_the_duration_asked_for(client: Client) -> None:
    with wave.open(io.BytesIO(client.output({"text": "hello", "duration": 1.5}, model=SPEECH))) as sound:
        assert sound.getnframes() / sound.getframerate() == pytest.approx(1.5, abs=0.001)
        assert any(sound.readframes(sound.getnframes()))


def test_a_tiny_drawing_is_64_by_64(client: Client, simulator: Simulator) -> None:
    simulator.settings(drawing="tiny")
    assert Image.open(io.BytesIO(client.output({"prompt": "small"}))).size == (64, 64)


@pytest.mark.parametrize("name", ["1.png", "0.mp4", "0", "x.png", "../0.png"])
def test_an_output_that_was_not_made_is_not_found(client: Client, name: str) -> None:
    task_id = client.submit({"prompt": "one", "enable_sync_mode": True})["id"]
    assert client.http.get(f"/outputs/{task_id}/{name}").status_code == 404


def test_an_output_is_not_there_before_the_end(client: Client, simulator: Simulator) -> None:
    task_id = client.submit({"prompt": "slow [time:3000]"})["id"]
    assert client.http.get(f"/outputs/{task_id}/0.png").status_code == 404

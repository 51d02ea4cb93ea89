"""Real files for the tests, made by the libraries that read them."""

import io
import math
from array import array
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from PIL import Image, ImageDraw

RATE = 24_000


def scene(size: tuple[int, int], moment: float = 0.0) -> Image.Image:
    """A picture with soft and hard edges; `moment`, 0 to 1, moves it."""
    image = Image.radial_gradient("L").resize(size).convert("RGB")
    width, height = size
    left = round(moment * width / 2)
    ImageDraw.Draw(image).rectangle((left, height // 4, left + width // 3, height // 2), fill=(200, 30, 60))
    ImageDraw.Draw(image).ellipse((width // 2, height // 2, width * 3 // 4, height - 1), fill=(20, 90, 160))
    return image


def picture(format: str = "PNG", size: tuple[int, int] = (64, 48)) -> bytes:  # noqa: A002
    image = scene(size)
    content = io.BytesIO()
    image.save(content, format)
    return content.getvalue()


def clip(
    path: Path,
    *,
    duration_s: float = 1.0,
    size: tuple[int, int] = (64, 48),
    codec: str = "mpeg4",
    moving: bool = True,
) -> Path:
    count = round(duration_s * 10)
    shown = (
        scene(size, number / count) if moving else Image.new("RGB", size, "grey") for number in range(count)
    )
    return film(path, shown, size=size, codec=codec)


def film(
    path: Path, shown: Iterable[Image.Image], *, size: tuple[int, int] = (64, 48), codec: str = "mpeg4"
) -> Path:
    """These pictures, ten a second."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for image in shown:
            frame = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]  # av's own
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def colours(path: Path, *named: str, each: int = 4) -> Path:
    """A film that is of one colour after the other."""
    return film(path, (Image.new("RGB", (64, 48), name) for name in named for _ in range(each)))


def tone(
    path: Path,
    *,
    duration_s: float = 1.0,
    codec: str = "pcm_s16le",
    options: Any = None,
    amplitude: int = 9000,
) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=RATE, options=options or {})
        stream.layout = "mono"
        resampler = av.AudioResampler(
            format=stream.format, layout="mono", rate=RATE, frame_size=stream.frame_size or 1024
        )
        for frame in resampler.resample(_sine(duration_s, amplitude)) + resampler.resample(None):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _sine(duration_s: float, amplitude: int) -> av.AudioFrame:
    """Cut off at full scale where the amplitude is larger."""
    count = round(RATE * duration_s)
    waves = (round(amplitude * math.sin(i / 10)) for i in range(count))
    samples = array("h", (max(-32_768, min(32_767, value)) for value in waves))
    frame = av.AudioFrame(format="s16", layout="mono", samples=count)
    frame.planes[0].update(samples.tobytes())
    frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), 0
    return frame

"""Real files for the tests, made by the libraries that read them."""

import io
import math
from array import array
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from PIL import Image

RATE = 24_000


def picture(format: str = "PNG", size: tuple[int, int] = (64, 48)) -> bytes:  # noqa: A002
    image = Image.effect_noise(size, 60).convert("RGB")
    content = io.BytesIO()
    image.save(content, format)
    return content.getvalue()


def clip(
    path: Path, *, duration_s: float = 1.0, size: tuple[int, int] = (64, 48), codec: str = "mpeg4"
) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for _ in range(round(duration_s * 10)):
            picture: Any = Image.effect_noise(size, 60).convert("RGB")
            frame = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]  # av's own
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def tone(path: Path, *, duration_s: float = 1.0, codec: str = "pcm_s16le", options: Any = None) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=RATE, options=options or {})
        stream.layout = "mono"
        resampler = av.AudioResampler(
            format=stream.format, layout="mono", rate=RATE, frame_size=stream.frame_size or 1024
        )
        for frame in resampler.resample(_sine(duration_s)) + resampler.resample(None):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _sine(duration_s: float) -> av.AudioFrame:
    count = round(RATE * duration_s)
    samples = array("h", (round(9000 * math.sin(i / 10)) for i in range(count)))
    frame = av.AudioFrame(format="s16", layout="mono", samples=count)
    frame.planes[0].update(samples.tobytes())
    frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), 0
    return frame

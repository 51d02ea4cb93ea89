"""MP4 films (H.264): the scene with a moving light and drifting hills."""

import io
from collections.abc import Iterator

import av
from PIL import Image

from apps.simulator.drawing import scene
from apps.simulator.orders import Order

FRAMES_PER_S = 12
# Frames are painted this wide at most and then enlarged: a long 1080p film stays affordable.
_PAINTED_WIDTH = 640


def mp4(order: Order) -> bytes:
    """As long and as large as asked for (H.264 wants even sides, so odd ones lose a pixel)."""
    width, height = order.width // 2 * 2, order.height // 2 * 2
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as film:
        stream = film.add_stream(
            "libx264", rate=FRAMES_PER_S, options={"preset": "ultrafast", "threads": "1"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in _frames(order, width, height):
            frame = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]  # PyAV types it in part
            for packet in stream.encode(frame):
                film.mux(packet)
        for packet in stream.encode():
            film.mux(packet)
    return buffer.getvalue()


def _frames(order: Order, width: int, height: int) -> Iterator[Image.Image]:
    landscape = scene.imagine(f"{order.model}|{order.prompt}|{order.seed}")
    layer = scene.caption(width, height, order.title, f"{order.model}  ·  seed {order.seed}")
    shrink = min(1.0, _PAINTED_WIDTH / width)
    painted = max(2, round(width * shrink)), max(2, round(height * shrink))
    count = max(1, round(order.duration_s * FRAMES_PER_S))

    def frame(number: int) -> Image.Image:
        image = scene.paint(landscape, *painted, moment=number / count)
        if painted != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        image.paste(layer, mask=layer)
        return image

    return map(frame, range(count))

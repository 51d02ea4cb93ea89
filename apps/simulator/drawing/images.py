"""PNG pictures."""

import io
import random

from PIL import Image

from apps.simulator.drawing import scene
from apps.simulator.orders import Order


def png(order: Order, index: int) -> bytes:
    """The `index`-th picture of the order, at the size asked for."""
    key = f"{order.model}|{order.prompt}|{order.seed + index}|{order.width}x{order.height}"
    image = scene.paint(scene.imagine(key), order.width, order.height)
    note = f"{order.model}  ·  seed {order.seed + index}  ·  {order.width} x {order.height}"
    layer = scene.caption(order.width, order.height, order.title, note)
    image.paste(layer, mask=layer)
    return _encode(image)


def tiny_png(order: Order, index: int) -> bytes:
    """64x64 and cheap, for benchmarks that are not about drawing."""
    rng = random.Random(f"{order.model}|{order.prompt}|{order.seed + index}")
    corners = Image.frombytes("RGB", (2, 2), rng.randbytes(12))
    return _encode(corners.resize((64, 64), Image.Resampling.BILINEAR))


def plain_png(order: Order, colour: str) -> bytes:
    """A picture of nothing."""
    return _encode(Image.new("RGB", (order.width, order.height), colour))


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()

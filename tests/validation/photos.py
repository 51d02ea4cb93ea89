"""Photographs shipped with scikit-image, pictures drawn by the simulator, and what can spoil a picture."""

import importlib.util
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
from PIL import Image, ImageFilter

from apps.simulator.drawing import images
from apps.simulator.orders import Order

_PHOTOS = (
    "astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field", "ihc",
    "moon", "motorcycle_left", "retina", "rocket",
)  # fmt: skip
_RENDERS = 6
_SIDE = 400

Spoil = Callable[[Image.Image], Image.Image]


def clean() -> Iterator[tuple[str, Image.Image]]:
    """Name and picture."""
    spec = importlib.util.find_spec("skimage")
    assert spec
    assert spec.origin
    data = Path(spec.origin).parent / "data"
    for name in _PHOTOS:
        photo = Image.open(next(data.glob(f"{name}.*"))).convert("RGB")
        # From the middle: enough to judge by, and quick.
        left, top = max(0, photo.width - _SIDE) // 2, max(0, photo.height - _SIDE) // 2
        yield name, photo.crop((left, top, min(photo.width, left + _SIDE), min(photo.height, top + _SIDE)))
    for seed in range(_RENDERS):
        yield f"render {seed}", render(seed, _SIDE)


def render(seed: int, side: int = 512) -> Image.Image:
    order = Order("flux", f"a lighthouse number {seed}", seed, side, side, 1, 0)
    return Image.open(io.BytesIO(images.png(order, 0))).convert("RGB")


def jpeg(quality: int) -> Spoil:
    def spoil(image: Image.Image) -> Image.Image:
        coded = io.BytesIO()
        image.save(coded, "JPEG", quality=quality)
        return Image.open(coded).convert("RGB")

    return spoil


def noise(sigma: float) -> Spoil:
    def spoil(image: Image.Image) -> Image.Image:
        pixels: Any = numpy.asarray(image, dtype=float)
        noisy = pixels + numpy.random.default_rng(1).normal(0, sigma, pixels.shape)
        return Image.fromarray(noisy.clip(0, 255).astype("uint8"))

    return spoil


def blur(radius: float) -> Spoil:
    return lambda image: image.filter(ImageFilter.GaussianBlur(radius))


def half_grey(image: Image.Image) -> Image.Image:
    spoiled = image.copy()
    spoiled.paste((128, 128, 128), (0, image.height // 2, image.width, image.height))
    return spoiled


def plain(*colour: int) -> Spoil:
    return lambda image: Image.new("RGB", image.size, colour)


UGLY: dict[str, Spoil] = {
    "blur 2": blur(2),
    "blur 4": blur(4),
    "noise 25": noise(25),
    "noise 50": noise(50),
    "JPEG 20": jpeg(20),
    "JPEG 10": jpeg(10),
    "JPEG 5": jpeg(5),
}
USELESS: dict[str, Spoil] = {
    "constant": plain(90, 120, 30),
    "white": plain(255, 255, 255),
    "black": plain(0, 0, 0),
    "half grey": half_grey,
}


def png(image: Image.Image) -> bytes:
    coded = io.BytesIO()
    image.save(coded, "PNG", compress_level=1)
    return coded.getvalue()

"""A landscape from a seed: sky, sun or moon, hills, trees, and the prompt on a plate."""

import colorsys
import math
import random
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFilter, ImageFont

Colour = tuple[int, int, int]

_PLATE = (12, 14, 24, 150)
_INK = (255, 255, 255, 255)
_FAINT = (255, 255, 255, 170)
_MARGIN = 0.05
_LINES = 5


def _colour(hue: float, saturation: float, lightness: float) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(hue % 1, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def _between(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


@dataclass(frozen=True)
class Wave:
    """One sine of a ridge: all lengths as shares of the picture's width or height."""

    height: float
    length: float
    phase: float


@dataclass(frozen=True)
class Ridge:
    base: float
    waves: tuple[Wave, ...]
    colour: Colour
    trees: tuple[tuple[float, float], ...]

    def y(self, x: float) -> float:
        return self.base + sum(
            wave.height * math.sin(2 * math.pi * x / wave.length + wave.phase) for wave in self.waves
        )


@dataclass(frozen=True)
class Scene:
    sky: tuple[Colour, Colour, Colour]
    light: Colour
    light_at: tuple[float, float]
    light_size: float
    ridges: tuple[Ridge, ...]
    stars: tuple[tuple[float, float, float], ...]


def imagine(key: str) -> Scene:
    """The scene that `key` (any text) always gives."""
    rng = random.Random(key)
    # From blue over violet and red to orange: nobody believes a green sky.
    hue = rng.uniform(0.52, 1.07)
    night = rng.random() < 0.25
    sky = _sky(rng, hue, night)
    haze = sky[2]
    ground = _colour(hue + rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.55), 0.07 if night else 0.13)
    layers = rng.randint(4, 6)
    return Scene(
        sky=sky,
        light=_colour(0.12 + rng.uniform(-0.06, 0.04), 0.5 if night else 0.95, 0.9 if night else 0.78),
        light_at=(rng.uniform(0.15, 0.85), rng.uniform(0.14, 0.42)),
        light_size=rng.uniform(0.05, 0.1),
        ridges=tuple(_ridge(rng, place, layers, haze, ground) for place in range(layers)),
        stars=tuple((rng.random(), rng.random() * 0.6, rng.random()) for _ in range(160 if night else 0)),
    )


def _sky(rng: random.Random, hue: float, night: bool) -> tuple[Colour, Colour, Colour]:
    if night:
        return _colour(hue, 0.5, 0.06), _colour(hue + 0.05, 0.45, 0.16), _colour(hue + 0.12, 0.4, 0.32)
    warm = hue + rng.uniform(0.25, 0.5)
    return _colour(hue, 0.55, 0.4), _colour(hue + 0.06, 0.6, 0.64), _colour(warm, 0.75, 0.82)


def _ridge(rng: random.Random, place: int, layers: int, haze: Colour, ground: Colour) -> Ridge:
    near = (place + 1) / layers
    waves = tuple(
        Wave(rng.uniform(0.02, 0.06) / octave, rng.uniform(0.5, 1.3) / octave, rng.uniform(0, 2 * math.pi))
        for octave in (1, 2.3, 5.1)
    )
    wooded = rng.randint(8, 26) if near > 0.5 else 0
    trees = tuple(sorted((rng.random(), rng.uniform(0.02, 0.06) * near) for _ in range(wooded)))
    return Ridge(0.42 + 0.42 * near, waves, _between(haze, ground, near**0.8), trees)


def paint(scene: Scene, width: int, height: int, *, moment: float = 0.0) -> Image.Image:
    """`moment` (0-1 of a film) moves the light and lets the near hills drift faster than the far ones."""
    image = _gradient(scene.sky, width, height)
    draw = ImageDraw.Draw(image)
    for x, y, glow in scene.stars:
        size = max(1.0, width / 700) * (0.5 + glow)
        draw.ellipse((x * width, y * height, x * width + size, y * height + size), fill=scene.light)
    _shine(image, scene, moment)
    for place, ridge in enumerate(scene.ridges):
        _raise(draw, ridge, width, height, drift=moment * 0.06 * (place + 1))
    return image


def _gradient(colours: tuple[Colour, Colour, Colour], width: int, height: int) -> Image.Image:
    column = Image.new("RGB", (1, 3))
    for row, colour in enumerate(colours):
        column.putpixel((0, row), colour)
    return column.resize((width, height), Image.Resampling.BICUBIC)


@cache
def _halo() -> Image.Image:
    """A disc with a soft edge and a wide glow, as a mask of 512x512."""
    # Distance from the centre (0-255) → opacity.
    opacity = [255 if d < 52 else max(0, round((1 - d / 200) ** 2 * 190)) for d in range(256)]
    mask = Image.radial_gradient("L").resize((512, 512), Image.Resampling.BICUBIC).point(opacity)
    return mask.filter(ImageFilter.GaussianBlur(1.5))


def _shine(image: Image.Image, scene: Scene, moment: float) -> None:
    side = round(scene.light_size * min(image.size) * 10)
    x = round((scene.light_at[0] + moment * 0.08) * image.width - side / 2)
    y = round((scene.light_at[1] - moment * 0.05) * image.height - side / 2)
    image.paste(scene.light, (x, y), _halo().resize((side, side), Image.Resampling.BILINEAR))


def _raise(draw: ImageDraw.ImageDraw, ridge: Ridge, width: int, height: int, *, drift: float) -> None:
    step = max(2, width // 320)
    line = [(float(x), ridge.y(x / width + drift) * height) for x in range(0, width + step, step)]
    draw.polygon([(0.0, float(height)), *line, (float(width + step), float(height))], fill=ridge.colour)
    for place, size in ridge.trees:
        _plant(draw, ridge, (place - drift) % 1, size, (width, height), drift)


def _plant(
    draw: ImageDraw.ImageDraw, ridge: Ridge, x: float, size: float, canvas: tuple[int, int], drift: float
) -> None:
    width, height = canvas
    foot, tall = ridge.y(x + drift) * height, size * height
    for tier in range(3):
        top = foot - tall * (1 - tier * 0.25)
        half = tall * (0.14 + tier * 0.07)
        draw.polygon(
            [(x * width - half, top + tall * 0.5), (x * width, top), (x * width + half, top + tall * 0.5)],
            fill=ridge.colour,
        )


def caption(width: int, height: int, text: str, note: str) -> Image.Image:
    """A transparent layer with `text` wrapped on a plate and `note` small below it."""
    layer = Image.new("RGBA", (width, height))
    if min(width, height) < 96:
        return layer
    size = max(9, min(width, height * 2) // 30)
    font, small = ImageFont.load_default(size), ImageFont.load_default(max(8, size * 0.55))
    pad, inner = size * 0.8, width * (1 - 2 * _MARGIN)
    lines = _wrap(text, font, inner - 2 * pad)
    tall = len(lines) * size * 1.3 + size * 0.9 + 2 * pad
    left, top = width * _MARGIN, height - height * _MARGIN - tall
    draw = ImageDraw.Draw(layer)
    draw.rounded_rectangle((left, top, left + inner, top + tall), radius=size * 0.6, fill=_PLATE)
    for row, line in enumerate(lines):
        draw.text((left + pad, top + pad + row * size * 1.3), line, font=font, fill=_INK)
    draw.text((left + pad, top + tall - pad - size * 0.6), note, font=small, fill=_FAINT)
    return layer


def _wrap(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont | ImageFont.TransposedFont, inner: float
) -> list[str]:
    """At most five lines, cut with an ellipsis. A word wider than the plate is cut as well."""
    lines = [""]
    for word in text[:1000].split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= inner:
            lines[-1] = longer
        else:
            lines.append(word)
    kept = [line for line in lines if line]
    if len(kept) > _LINES:
        kept = [*kept[: _LINES - 1], kept[_LINES - 1] + " …"]
    return [_fit(line, font, inner) for line in kept]


def _fit(
    line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont | ImageFont.TransposedFont, inner: float
) -> str:
    if font.getlength(line) <= inner:
        return line
    while line and font.getlength(line + "…") > inner:
        line = line[:-1]
    return line + "…"

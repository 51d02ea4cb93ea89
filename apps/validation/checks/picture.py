"""How good a picture is technically, from its pixels alone.

Each score is a ramp from 0 (nobody would take it) to 1 (nothing to see). No reference picture and no model: a blank or
half-made picture, blur, noise and coarse JPEG blocks are found; banding is not.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Grey = NDArray[numpy.uint8]

# What makes a picture useless rather than ugly: a score of 0 here refuses it.
HARD: Final = frozenset({"content", "fill", "exposure"})
# Focus and noise are measured in the middle of what is larger: pixels there are as good as any.
_MAX_MEASURED: Final = 1536
# Thumbnails are too small for a statement about focus or blocks.
_MIN_FOCUSED: Final = 128
_NOISE_BLOCK: Final = 16
_JPEG_BLOCK: Final = 8
# A step of half a level on average is not seen, however smooth the rest is.
_UNSEEN: Final = 0.5


def measure(image: Any) -> dict[str, float]:
    """Name → score of a decoded Pillow image."""
    import numpy

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[1] == 0:
            return {"content": 0.0}
    grey = numpy.asarray(image.convert("L"))
    if _content(grey) < 1:
        # Colours of one brightness are a picture too: the channel that shows most is looked at.
        grey = max((grey, *map(numpy.asarray, image.convert("RGB").split())), key=_content)
    return measure_grey(grey)


def measure_grey(grey: "Grey") -> dict[str, float]:
    """The same of a two-dimensional array of luma, 0 to 255."""
    import cv2

    cv2.setNumThreads(1)
    scores = {"content": _content(grey), "exposure": _exposure(grey), "fill": _fill(grey)}
    middle = _middle(grey)
    if min(middle.shape) >= _NOISE_BLOCK:
        scores["noise"] = _noise(middle)
    if min(middle.shape) >= _MIN_FOCUSED:
        scores |= {"block": _block(middle), "sharpness": _sharpness(middle)}
    return scores


def overall(scores: Mapping[str, float]) -> float:
    """0.7 of the worst and 0.3 of the mean: one bad fault is not made good by five virtues."""
    return 0.7 * min(scores.values()) + 0.3 * sum(scores.values()) / len(scores)


def ramp(value: float, worst: float, best: float) -> float:
    """0 at `worst` or beyond, 1 at `best` or beyond, a line between."""
    return float(min(1.0, max(0.0, (value - worst) / (best - worst))))


def _middle(grey: "Grey") -> "Grey":
    height, width = grey.shape
    top, left = max(0, height - _MAX_MEASURED) // 2, max(0, width - _MAX_MEASURED) // 2
    # A multiple of 8 keeps JPEG's grid where it was.
    top, left = top - top % _JPEG_BLOCK, left - left % _JPEG_BLOCK
    return grey[top : top + _MAX_MEASURED, left : left + _MAX_MEASURED]


def _content(grey: "Grey") -> float:
    """Standard deviation and entropy (bit): a single colour has neither."""
    import numpy

    share = _histogram(grey)
    share = share[share > 0]
    entropy = float(-(share * numpy.log2(share)).sum())
    return min(ramp(float(grey.std()), 2, 10), ramp(entropy, 0.3, 1.5))


def _exposure(grey: "Grey") -> float:
    """How bright the brightest hundredth is."""
    import numpy

    return ramp(int(numpy.searchsorted(_histogram(grey).cumsum(), 0.99)), 8, 40)


def _histogram(grey: "Grey") -> Any:
    import numpy

    return numpy.bincount(grey.ravel(), minlength=256) / grey.size


def _fill(grey: "Grey") -> float:
    """Which share of the rows, from the bottom up, repeats one row: decoders fill so what was not delivered."""
    same = (grey == grey[-1]).all(axis=1)[::-1]
    rows = len(same) if same.all() else int(same.argmin())
    return ramp(rows / len(same), 0.45, 0.2)


def _noise(grey: "Grey") -> float:
    """Immerkær, "Fast noise variance estimation" (1996), in the quietest tenth of the blocks: texture is no noise."""
    import cv2
    import numpy

    kernel = numpy.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=numpy.float32)
    response = numpy.abs(cv2.filter2D(grey, cv2.CV_32F, kernel))
    height, width = (side // _NOISE_BLOCK * _NOISE_BLOCK for side in grey.shape)
    size = (width // _NOISE_BLOCK, height // _NOISE_BLOCK)
    means = cv2.resize(response[:height, :width], size, interpolation=cv2.INTER_AREA)
    sigma = float(numpy.sqrt(numpy.pi / 2) / 6 * numpy.percentile(means, 10))
    return ramp(sigma, 22, 4)


def _block(grey: "Grey") -> float:
    """Steps across the borders of JPEG's 8 by 8 blocks, against steps elsewhere."""
    import numpy

    signed = grey.astype(numpy.int16)
    ratios = []
    for steps in (numpy.abs(numpy.diff(signed, axis=1)), numpy.abs(numpy.diff(signed, axis=0)).T):
        by_column = steps.mean(axis=0)
        border = numpy.arange(len(by_column)) % _JPEG_BLOCK == _JPEG_BLOCK - 1
        ratios.append(float((by_column[border].mean() + _UNSEEN) / (by_column[~border].mean() + _UNSEEN)))
    return ramp(max(ratios), 1.7, 1.15)


def _sharpness(grey: "Grey") -> float:
    """Crete et al., "The blur effect" (2007): what is blurred changes little when it is blurred again."""
    import cv2
    import numpy

    sharp = grey.astype(numpy.float32)
    effects = []
    for axis, kernel in ((0, (1, 9)), (1, (9, 1))):
        steps = numpy.abs(numpy.diff(sharp, axis=axis))
        again = numpy.abs(numpy.diff(cv2.blur(sharp, kernel), axis=axis))
        total = float(steps.sum())
        lost = float(numpy.maximum(0, steps - again).sum())
        effects.append((total - lost) / total if total else 1.0)
    return ramp(max(effects), 0.80, 0.38)

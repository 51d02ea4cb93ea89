"""Exposed body parts in pictures, by NudeNet's detector (github.com/notAI-tech/NudeNet, MIT): a YOLOv8 of 18 classes.

Only its weights are used: the file in the package `nudenet`, or the one that `NUDENET_MODEL` names. It knows no
violence, hate or age, and is no protection of children.
"""

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from django.conf import settings

_FILE: Final = "320n.onnx"
_SIDE: Final = 320
# In the order of the model's output.
CLASSES: Final = (
    "FEMALE_GENITALIA_COVERED", "FACE_FEMALE", "BUTTOCKS_EXPOSED", "FEMALE_BREAST_EXPOSED", "FEMALE_GENITALIA_EXPOSED",
    "MALE_BREAST_EXPOSED", "ANUS_EXPOSED", "FEET_EXPOSED", "BELLY_COVERED", "FEET_COVERED", "ARMPITS_COVERED",
    "ARMPITS_EXPOSED", "FACE_MALE", "BELLY_EXPOSED", "MALE_GENITALIA_EXPOSED", "ANUS_COVERED", "FEMALE_BREAST_COVERED",
    "BUTTOCKS_COVERED",
)  # fmt: skip
_UNSAFE: Final = frozenset(
    {"FEMALE_GENITALIA_EXPOSED", "MALE_GENITALIA_EXPOSED", "FEMALE_BREAST_EXPOSED", "ANUS_EXPOSED", "BUTTOCKS_EXPOSED"}
)  # fmt: skip


def is_installed() -> bool:
    return bool(_path())


def score(pictures: Sequence[Any]) -> float:
    """How surely one of the Pillow images shows an exposed part, 0 to 1."""
    session = _session(_path())
    return max((_score(session, image) for image in pictures), default=0.0)


def _path() -> str:
    return settings.NUDENET_MODEL or _packaged()


@cache
def _packaged() -> str:
    """Found without importing the package, which would load what we do not use."""
    spec = importlib.util.find_spec("nudenet")
    file = Path(spec.origin).with_name(_FILE) if spec and spec.origin else None
    return str(file) if file and file.exists() else ""


@cache
def _session(path: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _score(session: Any, image: Any) -> float:
    """Each column of the output is a box: its place, then how surely it is of each class. It is of the surest one."""
    given = session.get_inputs()[0]
    (output,) = session.run(None, {given.name: _pixels(image, given.shape[2])})[:1]
    classes = output[0][4:]
    surest = classes.argmax(axis=0)
    unsafe = [index for index, name in enumerate(CLASSES) if name in _UNSAFE]
    found = [float(classes[index][surest == index].max(initial=0.0)) for index in unsafe]
    return min(1.0, max(found))


def _pixels(image: Any, side: Any) -> Any:
    """1 by 3 by side by side, 0 to 1, as the published weights were measured: the picture in the upper left corner of a
    black square, its planes blue, green, red."""
    import numpy
    from PIL import Image

    side = side if isinstance(side, int) else _SIDE
    scale = side / max(image.size)
    size = tuple(max(1, round(each * scale)) for each in image.size)
    square = Image.new("RGB", (side, side))
    square.paste(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
    values = numpy.asarray(square, dtype=numpy.float32)[:, :, ::-1] / 255
    return numpy.ascontiguousarray(values.transpose(2, 0, 1)[None])

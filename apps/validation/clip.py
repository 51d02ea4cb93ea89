"""CLIPScore (Hessel et al., EMNLP 2021) by a model in this process: the cosine of pictures and words.

The model is the operator's: a directory (`CLIP_MODEL_DIR`) with `model.onnx` (inputs `input_ids`, `pixel_values` and,
if it has it, `attention_mask`; outputs `text_embeds`, `image_embeds`), `tokenizer.json` and `preprocessor.json`
(`size`, `image_mean`, `image_std`). Nothing is downloaded.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from django.conf import settings

# What CLIP reads; a longer prompt is cut at its sentences, and its parts are scored.
_MAX_TOKENS: Final = 77
_SENTENCES = re.compile(r"(?<=[.!?;])\s+|\n+")


@dataclass(frozen=True, slots=True)
class _Model:
    session: Any
    tokenizer: Any
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str


def is_configured() -> bool:
    return bool(settings.CLIP_MODEL_DIR)


def cosine(pictures: Sequence[Any], prompt: str) -> tuple[float, str]:
    """The mean over the Pillow images and the parts of the prompt, -1 to 1; and the SHA-256 of the model."""
    model = _model(settings.CLIP_MODEL_DIR)
    parts = _parts(model, prompt)
    pixels = [_pixels(model, image) for image in pictures]
    cosines = [_of(model, part, each) for each in pixels for part in parts]
    return sum(cosines) / len(cosines), model.sha256


@cache
def _model(folder: str) -> _Model:
    import onnxruntime
    from tokenizers import Tokenizer

    path = Path(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    content = (path / "model.onnx").read_bytes()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    prepared = json.loads((path / "preprocessor.json").read_text())
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_MAX_TOKENS)
    digest = hashlib.sha256(content).hexdigest()
    mean, std = tuple(prepared["image_mean"]), tuple(prepared["image_std"])
    return _Model(session, tokenizer, int(prepared["size"]), mean, std, digest)


def _of(model: _Model, text: str, pixels: Any) -> float:
    import numpy

    ids = numpy.array([model.tokenizer.encode(text).ids], dtype=numpy.int64)
    given = {"input_ids": ids, "pixel_values": pixels, "attention_mask": numpy.ones_like(ids)}
    wanted = {each.name for each in model.session.get_inputs()}
    inputs = {name: value for name, value in given.items() if name in wanted}
    words, picture = model.session.run(["text_embeds", "image_embeds"], inputs)
    length = numpy.linalg.norm(words[0]) * numpy.linalg.norm(picture[0])
    return float(words[0] @ picture[0] / length) if length else 0.0


def _parts(model: _Model, prompt: str) -> list[str]:
    model.tokenizer.no_truncation()
    fits = len(model.tokenizer.encode(prompt).ids) <= _MAX_TOKENS
    model.tokenizer.enable_truncation(_MAX_TOKENS)
    return [prompt] if fits else [part for part in _SENTENCES.split(prompt) if part.strip()]


def _pixels(model: _Model, image: Any) -> Any:
    """1 by 3 by size by size: the shorter side scaled, the middle cut out, normalised."""
    import numpy
    from PIL import Image, ImageOps

    square = ImageOps.fit(image.convert("RGB"), (model.size, model.size), Image.Resampling.BICUBIC)
    values = numpy.asarray(square, dtype=numpy.float32) / 255
    normal = (values - numpy.array(model.mean)) / numpy.array(model.std)
    return normal.transpose(2, 0, 1)[None].astype(numpy.float32)

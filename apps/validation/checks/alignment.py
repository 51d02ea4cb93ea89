"""Does a picture show what its prompt says? CLIPScore (Hessel et al., EMNLP 2021): 2.5 times the cosine of picture and
words, 0 if negative, so 0.75 means a cosine of 0.30, which is good.

The model is the operator's: a directory (`CLIP_MODEL_DIR`) with `model.onnx` (inputs `input_ids`, `pixel_values` and,
if it has it, `attention_mask`; outputs `text_embeds`, `image_embeds`), `tokenizer.json` and `preprocessor.json`
(`size`, `image_mean`, `image_std`). Nothing is downloaded. Without it the check is skipped.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from apps.validation.checks import decode
from apps.validation.checks.results import CheckResult, Subject

NAME: Final = "content_alignment"
VERSION: Final = "clipscore-2.5"
_SCALE: Final = 2.5
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


def check(subject: Subject) -> CheckResult:
    if subject.kind != "image" or not subject.prompt:
        return CheckResult(
            NAME, "skipped", None, None, {"why": f"not made of {subject.kind}"}, version=VERSION
        )
    if not settings.CLIP_MODEL_DIR:
        return CheckResult(NAME, "skipped", None, None, {"why": "no model is installed"}, version=VERSION)
    model = _model(settings.CLIP_MODEL_DIR)
    cosine = _cosine(model, subject)
    score = round(min(1.0, _SCALE * max(cosine, 0.0)), 4)
    details: dict[str, Any] = {
        "cosine": round(cosine, 4),
        "definition": VERSION,
        "model_sha256": model.sha256,
    }
    if score < subject.standard.min_alignment:
        details["problems"] = [
            f"it does not show the prompt: {score:.2f}, below {subject.standard.min_alignment:.2f}"
        ]
        return CheckResult(NAME, "failed", False, score, details, version=VERSION)
    return CheckResult(NAME, "passed", True, score, details, version=VERSION)


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


def _cosine(model: _Model, subject: Subject) -> float:
    """The mean over the parts of the prompt."""
    with decode.picture(subject.path, subject.media_type) as image:
        pixels = _pixels(model, image)
    cosines = [_of(model, part, pixels) for part in _parts(model, subject.prompt)]
    return sum(cosines) / len(cosines)


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

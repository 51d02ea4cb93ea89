"""A CLIP model of 1 kB, made by hand: it knows the words red, green and blue, and the mean colour of a picture."""

import json
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = {"[UNK]": 0, "red": 1, "green": 2, "blue": 3}


def make(folder: Path) -> Path:
    """The directory, as CLIP_MODEL_DIR names it."""
    words = numpy.array([[0.1, 0.1, 0.1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=numpy.float32)
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["each"]),
        helper.make_node("ReduceSum", ["each", "axis"], ["text_embeds"], keepdims=0),
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["colour"]),
        helper.make_node("Flatten", ["colour"], ["image_embeds"]),
    ]
    floats, integers = TensorProto.FLOAT, TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "colours",
        [
            helper.make_tensor_value_info("input_ids", integers, [1, "length"]),
            helper.make_tensor_value_info("pixel_values", floats, [1, 3, 8, 8]),
        ],
        [
            helper.make_tensor_value_info("text_embeds", floats, [1, 3]),
            helper.make_tensor_value_info("image_embeds", floats, [1, 3]),
        ],
        [
            numpy_helper.from_array(words, "words"),
            numpy_helper.from_array(numpy.array([1], dtype=numpy.int64), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    prepared = {"size": 8, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    (folder / "preprocessor.json").write_text(json.dumps(prepared))
    return folder

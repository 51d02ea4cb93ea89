"""A detector of 1 kB, made by hand, in the form of NudeNet's: what is red is exposed, what is blue is a face."""

from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

from apps.validation.nudity import CLASSES

SIDE, BOXES = 16, 2
_BLUE, _RED = 0, 2


def make(path: Path) -> Path:
    """Its output, as a YOLOv8's: 4 + 18 numbers for each of two boxes. The planes come in as blue, green, red."""
    rows = 4 + len(CLASSES)
    weights = numpy.zeros((3, rows, BOXES), dtype=numpy.float32)
    weights[_RED, 4 + CLASSES.index("FEMALE_BREAST_EXPOSED"), 0] = 0.9
    weights[_BLUE, 4 + CLASSES.index("FACE_FEMALE"), 1] = 0.95
    # In the second box a little red: it is a face all the same.
    weights[_BLUE, 4 + CLASSES.index("ANUS_EXPOSED"), 1] = 0.9
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["means"]),
        helper.make_node("Flatten", ["means"], ["colour"]),
        helper.make_node("MatMul", ["colour", "weights"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, rows, BOXES])],
        [
            numpy_helper.from_array(weights.reshape(3, rows * BOXES), "weights"),
            numpy_helper.from_array(numpy.array([1, rows, BOXES], dtype=numpy.int64), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path

"""Evaluating the parts of a graph that do not depend on the image: shape arithmetic, constants.

The batch size is unknown while converting, yet exported graphs compute with it. It takes part as
the prime `BATCH`, which no layer has as a size: whatever comes out divisible by it is a multiple of
the batch. An open height or width takes part as `OPEN` in the same way.
"""

import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from keras_amalgam.teachers.onnx_graph import Graph, Node

BATCH = 10_007
OPEN = 10_009
MAX_ELEMENTS = 2**27
# What attributes and inputs that do not fit an operator make NumPy and the evaluator raise.
_MISFITS = (
    ArithmeticError,
    AttributeError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)

FOLDABLE = frozenset(
    {
        *("Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape"),
        *("Cos", "DequantizeLinear", "Div", "Equal", "Exp", "Expand", "Flatten", "Floor", "Gather"),
        *("Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "MatMul", "Max"),
        *("Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Range", "Reciprocal", "ReduceMax"),
        *("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round", "Sign", "Sin"),
        *(
            "Shape",
            "Size",
            "Slice",
            "Split",
            "Sqrt",
            "Squeeze",
            "Sub",
            "Tile",
            "Transpose",
            "Unsqueeze",
        ),
        "Where",
    }
)


def is_foldable(node: Node, constants: Sequence[np.ndarray | None]) -> bool:
    """Whether a node is a constant that may be computed while converting.

    Args:
        node: Any node.
        constants: Its inputs' values, `None` for those that are left out.

    Returns:
        Whether the operator is deterministic and cheap and its result does not grow with the batch.
    """
    if node.domain or node.operator not in FOLDABLE:
        return False
    if node.operator == "Range":
        return not any(_holds_open_size(c) for c in constants if c is not None)
    if node.operator in ("ConstantOfShape", "Expand", "Tile"):
        return constants[-1] is not None and not _holds_open_size(constants[-1])
    return True


def fold(node: Node, constants: Sequence[np.ndarray | None]) -> tuple[np.ndarray, ...]:
    """The outputs of a node whose inputs are constants.

    Args:
        node: Of an operator in `FOLDABLE`.
        constants: Its inputs' values.

    Raises:
        ValueError: If the result would be larger than `MAX_ELEMENTS`, or the inputs do not fit the
            operator.
    """
    size = _result_size(node, constants)
    if size > MAX_ELEMENTS:
        raise ValueError(
            f"A constant in the graph is too large: {node} would make {size:,} elements. At most "
            f"{MAX_ELEMENTS:,} are allowed."
        )
    proto = onnx.helper.make_node(node.operator, node.inputs, node.outputs)
    for key, value in node.attributes.items():
        is_tensor = isinstance(value, np.ndarray)
        value = numpy_helper.from_array(value) if is_tensor else value
        proto.attribute.append(onnx.helper.make_attribute(key, value))
    feeds = {
        name: value
        for name, value in zip(node.inputs, constants, strict=True)
        if name and value is not None
    }
    inputs = [onnx.helper.make_empty_tensor_value_info(name) for name in feeds]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.outputs if name]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([proto], "fold", inputs, outputs),
        opset_imports=[onnx.helper.make_opsetid("", node.opset)],
    )
    try:
        results = ReferenceEvaluator(model).run(None, feeds)
    except _MISFITS as error:
        raise ValueError(
            f"Cannot compute {node}, which does not fit its inputs: {error}"
        ) from error
    return tuple(np.asarray(result) for result in results)


def fold_constants(graph: Graph) -> Graph:
    """The graph with every node computed that depends on constants only."""
    constants = dict(graph.constants)
    kept = []
    for node in graph.nodes:
        values = [constants.get(name) for name in node.inputs]
        ready = all(v is not None or not name for name, v in zip(node.inputs, values, strict=True))
        if ready and is_foldable(node, values):
            constants.update(zip(filter(None, node.outputs), fold(node, values), strict=True))
        else:
            kept.append(node)
    return Graph(tuple(kept), constants, graph.inputs, graph.outputs)


def _holds_open_size(array: np.ndarray) -> bool:
    if not np.issubdtype(array.dtype, np.integer):
        return False
    return bool(np.any((array != 0) & ((array % BATCH == 0) | (array % OPEN == 0))))


def _result_size(node: Node, constants: Sequence[np.ndarray | None]) -> int:
    """An upper bound of the elements a node makes; bombs are small files with large shapes."""
    given = [c for c in constants if c is not None]
    if node.operator in ("ConstantOfShape", "Expand", "Tile") and given:
        factors = math.prod(abs(int(n)) for n in given[-1].reshape(-1))
        return factors * (given[0].size if node.operator == "Tile" else 1)
    if node.operator == "Range" and len(given) == 3:
        start, stop, step = (float(c.reshape(())) for c in given)
        return int(abs(stop - start) / max(abs(step), 1e-12))
    if node.operator in ("Gather", "MatMul") and len(given) == 2:
        return given[0].size * given[1].size if node.operator == "Gather" else _matmul_size(*given)
    ranks = [c.shape for c in given]
    try:
        return math.prod(np.broadcast_shapes(*ranks))
    except ValueError:  # Not broadcast together, as in Concat and Slice.
        return sum(c.size for c in given)


def _matmul_size(left: np.ndarray, right: np.ndarray) -> int:
    return math.prod(left.shape[:-1]) * math.prod(right.shape[-1:] or (1,))

"""Evaluating the parts of a graph that do not depend on the image: shape arithmetic, constants.

The batch size is unknown while converting, yet exported graphs compute with it. It takes part as
the prime `BATCH`, which no layer has as a size: whatever comes out divisible by it is a multiple of
the batch. An open height or width takes part as `OPEN` in the same way.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from keras_amalgam.teachers.onnx_files.graph import Graph, Node

BATCH = 10_007
OPEN = 10_009
MAX_ELEMENTS = 2**27  # The largest kernel of VGG16 has 103 million.
# Of a constant that is made of its shape alone, such as a mask of 4,096 by 4,096 tokens.
MAX_MADE = 2**24
_MADE = ("ConstantOfShape", "Expand", "OneHot", "Range", "Tile")
# Of all folded constants together, beside four times what the file itself holds.
MAX_TOTAL = 2**27
# What attributes and inputs that do not fit an operator make NumPy and the evaluator raise.
_MISFITS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)

# Deterministic and cheap; an operator that is not here is converted, or refused, as usual.
FOLDABLE = frozenset({
    "Abs", "Add", "And", "ArgMax", "ArgMin", "BatchNormalization", "Cast", "CastLike", "Ceil",
    "Clip", "Concat", "Constant", "ConstantOfShape", "Cos", "CumSum", "DequantizeLinear", "Div",
    "Einsum", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements",
    "GatherND", "Gemm", "Greater", "GreaterOrEqual", "Identity", "IsInf", "IsNaN", "Less",
    "LessOrEqual", "Log", "MatMul", "Max", "Mean", "Min", "Mod", "Mul", "Neg", "Not", "OneHot",
    "Or", "Pad", "Pow", "QuantizeLinear", "Range", "Reciprocal", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "Round", "ScatterElements",
    "ScatterND", "Shape", "Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax", "Softplus",
    "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tan", "Tanh", "Tile", "Transpose", "Trilu",
    "Unsqueeze", "Where", "Xor",
})  # fmt: skip


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
    if node.operator == "BatchNormalization":
        # Before opset 14 further outputs say that it is in training.
        is_known = node.opset >= 14 or len(node.outputs) == 1
        return is_known and bool(node.attributes.get("spatial", 1))
    if node.operator in ("ConstantOfShape", "Expand", "Tile"):
        return constants[-1] is not None and not _holds_open_size(constants[-1])
    return True


def fold(
    node: Node, constants: Sequence[np.ndarray | None], most: int = MAX_ELEMENTS
) -> tuple[np.ndarray, ...]:
    """The outputs of a node whose inputs are constants.

    Args:
        node: Of an operator in `FOLDABLE`.
        constants: Its inputs' values.
        most: How many elements the result may have.

    Raises:
        ValueError: If the result would be larger, or the inputs do not fit the operator.
    """
    try:
        _refuse_overflow(node, constants)
        size = _result_size(node, constants)
        most = min(most, MAX_MADE) if node.operator in _MADE else most
        if size > most:
            raise ValueError(f"it would make {size:,} elements. At most {most:,} are allowed")
        own = _COMPUTED_HERE.get(node.operator, lambda node, constants: None)(node, constants)
        return _evaluated(node, constants) if own is None else (own,)
    except _MISFITS as error:
        raise ValueError(
            f"Cannot compute {node}, which is too large or does not fit its inputs: {error}."
        ) from error


def _evaluated(node: Node, constants: Sequence[np.ndarray | None]) -> tuple[np.ndarray, ...]:
    """The outputs as ONNX's own evaluator computes them."""
    proto = onnx.helper.make_node(node.operator, node.inputs, node.outputs)
    for key, value in node.attributes.items():
        if key == "spatial":  # Which newer forms of BatchNormalization do without.
            continue
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
        opset_imports=[onnx.helper.make_opsetid("", _opset_evaluated(node))],
    )
    results = ReferenceEvaluator(model).run(None, feeds)
    return tuple(np.asarray(result) for result in results)


def _opset_evaluated(node: Node) -> int:
    """The evaluator knows the newest forms of some alone, or older ones wrongly; these fit, too."""
    return max(node.opset, {"BatchNormalization": 15, "DequantizeLinear": 19}.get(node.operator, 0))


def fold_constants(graph: Graph) -> Graph:
    """The graph with every node computed that depends on constants only."""
    constants = dict(graph.constants)
    rest = MAX_TOTAL + 4 * sum(array.size for array in constants.values())
    kept = []
    for node in graph.nodes:
        values = [constants.get(name) for name in node.inputs]
        ready = all(v is not None or not name for name, v in zip(node.inputs, values, strict=True))
        if ready and is_foldable(node, values):
            # Asked before it is computed: what is refused afterwards is in memory by then.
            results = fold(node, values, min(MAX_ELEMENTS, rest))
            rest -= sum(result.size for result in results)
            constants.update(zip(filter(None, node.outputs), results, strict=True))
        else:
            kept.append(node)
    return Graph(tuple(kept), constants, graph.inputs, graph.outputs)


def _holds_open_size(array: np.ndarray) -> bool:
    if not np.issubdtype(array.dtype, np.integer):
        return False
    return bool(np.any((array != 0) & ((array % BATCH == 0) | (array % OPEN == 0))))


def _refuse_overflow(node: Node, constants: Sequence[np.ndarray | None]) -> None:
    """The least integer divided by -1 ends the process in which onnxruntime runs the source."""
    if node.operator not in ("Div", "Mod") or len(constants) != 2:
        return
    dividend, divisor = (np.asarray(c) for c in constants)
    if np.issubdtype(dividend.dtype, np.signedinteger):
        least = np.iinfo(dividend.dtype).min
        if (dividend == least).any() and (divisor == -1).any():
            raise ValueError(f"{least} / -1 overflows")


def _scatter_nd(node: Node, constants: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """ScatterND in one stroke; the evaluator takes a step for each element.

    Masks of windows are filled in this way, thousands of elements at a time.
    """
    data, indices, updates = constants
    if node.attributes.get("reduction", "none") != "none":
        return None
    result = np.array(data)
    result[tuple(np.moveaxis(np.asarray(indices), -1, 0))] = updates
    return result


def _softmax(node: Node, constants: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Softmax before opset 13, over all axes from one on, which the evaluator does not know."""
    (data,) = constants
    if node.opset >= 13 or data is None:
        return None
    axis = node.attributes.get("axis", 1)
    rows = data.reshape(math.prod(data.shape[: axis % max(data.ndim, 1)]), -1)
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).reshape(data.shape)


def _result_size(node: Node, constants: Sequence[np.ndarray | None]) -> int:
    """An upper bound of the elements a node makes; bombs are small files with large shapes."""
    given = [c for c in constants if c is not None]
    bound = _BOUNDS.get(node.operator)
    if bound is not None and given:
        return bound(node, given)
    try:
        return math.prod(np.broadcast_shapes(*(c.shape for c in given)))
    except ValueError:  # Not broadcast together, as in Concat and Slice.
        return sum(c.size for c in given)


Bound = Callable[[Node, Sequence[np.ndarray]], int]


def _product(numbers: np.ndarray) -> int:
    return math.prod(abs(int(n)) for n in numbers.reshape(-1))


def _range_size(node: Node, given: Sequence[np.ndarray]) -> int:
    start, stop, step = (float(c.reshape(())) for c in given)
    return int(abs(stop - start) / max(abs(step), 1e-12))


def _gathered_size(node: Node, given: Sequence[np.ndarray]) -> int:
    data, indices = given
    if node.operator == "Gather":
        axis = node.attributes.get("axis", 0)
        return indices.size * (data.size // max(data.shape[axis], 1))
    kept = data.shape[indices.shape[-1] + node.attributes.get("batch_dims", 0) :]
    return indices.size * math.prod(kept)


def _product_size(node: Node, given: Sequence[np.ndarray]) -> int:
    left, right = given[:2]
    inner = max(left.shape[-1:] or (1,))
    size = left.size // max(inner, 1) * max(right.shape[-1:] or (1,))
    return max(size, size * inner // _PRODUCTS_PER_ELEMENT)  # Integers are multiplied slowly.


def _einsum_size(node: Node, given: Sequence[np.ndarray]) -> int:
    """Of all index values together, which is the work of it, too."""
    terms = node.attributes["equation"].replace(" ", "").partition("->")[0].split(",")
    letters = {}
    for term, array in zip(terms, given, strict=True):
        letters |= dict(zip(term, array.shape, strict=True))
    return math.prod(letters.values())


def _padded_size(node: Node, given: Sequence[np.ndarray]) -> int:
    pads = node.attributes.get("pads", given[1] if len(given) > 1 else [0])
    return math.prod(n + 2 * int(np.abs(pads).max()) for n in given[0].shape)


def _resized_size(node: Node, given: Sequence[np.ndarray]) -> int:
    """The evaluator takes one step for each element, so only a few are allowed."""
    last = next(c for c in reversed(given) if c.size)
    is_sizes = np.issubdtype(last.dtype, np.integer)
    size = _product(last) if is_sizes else given[0].size * float(np.prod(np.abs(last)))
    return int(size) * _STEPS_OF_RESIZE


_COMPUTED_HERE = {"ScatterND": _scatter_nd, "Softmax": _softmax}
_STEPS_OF_RESIZE = 32
_PRODUCTS_PER_ELEMENT = 16
_BOUNDS: dict[str, Bound] = {
    "ConstantOfShape": lambda node, given: _product(given[-1]),
    "Einsum": _einsum_size,
    "Expand": lambda node, given: math.prod(np.broadcast_shapes(given[0].shape, tuple(given[1]))),
    "Gather": _gathered_size,
    "GatherND": _gathered_size,
    "Gemm": _product_size,
    "MatMul": _product_size,
    "OneHot": lambda node, given: given[0].size * _product(given[1]),
    "Pad": _padded_size,
    "Range": _range_size,
    "Resize": _resized_size,
    "Tile": lambda node, given: _product(given[-1]) * given[0].size,
}

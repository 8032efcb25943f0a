"""Where the axes of a map stand in an ONNX file, which need not be convertible.

As in `layout`, the order of a map names the source axis that each of the axes batch, height, width
and channels is: `(0, 2, 3, 1)` for channels first.
"""

from collections.abc import Sequence

import onnx

from keras_amalgam.teachers.conversion.convert import convert_file
from keras_amalgam.teachers.conversion.layout import Value
from keras_amalgam.teachers.onnx_files.file import OnnxFile

Order = tuple[int, ...]
CHANNELS_FIRST: Order = (0, 2, 3, 1)
# Operators whose images and maps have their channels second, by the standard.
_SPATIAL = {
    "AveragePool", "BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "DepthToSpace",
    "FusedConv", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "GroupNormalization",
    "InstanceNormalization", "LpPool", "LRN", "MaxPool", "QLinearConv", "SpaceToDepth",
}  # fmt: skip
# Operators that leave every axis where it is.
_IN_PLACE = {
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BiasGelu", "Binarizer",
    "Cast", "CastLike", "Ceil", "Celu", "Clip", "Concat", "Cos", "Cosh", "DequantizeLinear", "Div",
    "Dropout", "DynamicQuantizeLinear", "Elu", "Equal", "Erf", "Exp", "FastGelu", "Floor", "Gelu",
    "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "IsInf",
    "IsNaN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax",
    "LpNormalization", "Max", "Mean", "MeanVarianceNormalization", "Min", "Mish", "Mod", "Mul",
    "Neg", "Not", "Or", "PRelu", "Pad", "Pow", "QLinearAdd", "QLinearMul", "QuantizeLinear",
    "QuickGelu", "RMSNormalization", "Reciprocal", "Relu", "Resize", "Round", "Selu", "Shrink",
    "Sigmoid", "Sign", "Sin", "Sinh", "Slice", "Softmax", "Softplus", "Softsign", "Split", "Sqrt",
    "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Upsample", "Where", "Xor",
}  # fmt: skip
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
_PRODUCT: Order = ()  # With a matrix of weights: the last axis becomes another number of channels.


class MapAxes:
    """The orders of a file's tensors of four axes.

    Args:
        file: As read.
        image: The image's name.
        order: The image's order.
    """

    def __init__(self, file: OnnxFile, image: str, order: Order) -> None:
        self._file = file
        self._image = image
        self._order = order
        self._known: dict[str, Order] = {}

    def order(self, tensor: str) -> Order:
        """What turns a tensor into `(batch, height, width, channels)`.

        Read from the operators between the tensor and the last one that tells; where they do not
        tell, from the conversion of the file.

        Raises:
            ValueError: If nothing tells.
        """
        if tensor not in self._known:
            found = _traced(self._file.model, tensor, self._image, self._order)
            found = found or self._converted(tensor)
            if found is None:
                raise ValueError(
                    f"It cannot be told which axes of {tensor!r} in {self._file.path.name!r} are "
                    "height, width and channels, since an operator before it mixes or regroups "
                    "them. Received: four axes. Tap a tensor nearer to a convolution, or tokens."
                )
            self._known[tensor] = found
        return self._known[tensor]

    def _converted(self, tensor: str) -> Order | None:
        """As in the Keras model that the file becomes, if it becomes one."""
        try:
            value = convert_file(self._file).values.get(tensor)
        except (NotImplementedError, ValueError):
            return None
        return value.order if isinstance(value, Value) and value.rank == 4 else None


def _traced(model: onnx.ModelProto, tensor: str, image: str, order: Order) -> Order | None:
    """Back from a tensor to what has a known order, and forth through the steps between."""
    producers = {name: node for node in model.graph.node for name in node.output}
    constants = {port.name for port in model.graph.initializer}
    waiting: list[tuple[str, tuple[Order, ...]]] = [(tensor, ())]
    seen = set()
    while waiting:
        name, steps = waiting.pop(0)
        node = producers.get(name)
        if node is not None and node.domain not in _DOMAINS:
            continue
        known = order if name == image else None
        if node is not None and node.op_type in _SPATIAL:
            known = CHANNELS_FIRST
        if known is not None and (found := _after(known, steps)) is not None:
            return found
        if node is None or known is not None or name in seen:
            continue
        seen.add(name)
        if node.op_type == "Transpose":
            waiting.append((node.input[0], (*steps, _permutation(node))))
        elif node.op_type == "MatMul" and _is_constant(node.input[1], producers, constants):
            waiting.append((node.input[0], (*steps, _PRODUCT)))
        elif node.op_type in _IN_PLACE or _keeps_axes(node):
            waiting.extend((each, steps) for each in node.input if each)
    return None


def _after(order: Order, steps: Sequence[Order]) -> Order | None:
    """An order after the steps, the last one first; None where they do not fit a map."""
    for step in reversed(steps):
        if step == _PRODUCT and order[3] == 3:
            continue
        if sorted(step) != [0, 1, 2, 3]:
            return None
        order = tuple(step.index(axis) for axis in order)
    return order


def _permutation(node: onnx.NodeProto) -> Order:
    return next((tuple(a.ints) for a in node.attribute if a.name == "perm"), (3, 2, 1, 0))


def _keeps_axes(node: onnx.NodeProto) -> bool:
    """Whether it is a reduction that leaves axes of size one."""
    kept = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
    return node.op_type.startswith("Reduce") and bool(kept)


def _is_constant(name: str, producers: dict[str, onnx.NodeProto], constants: set[str]) -> bool:
    """Whether it is a constant, at most quantized."""
    node = producers.get(name)
    if node is None:
        return name in constants
    quantized = node.op_type in ("DequantizeLinear", "Identity", "Cast")
    return node.op_type == "Constant" or (quantized and node.input[0] in constants)

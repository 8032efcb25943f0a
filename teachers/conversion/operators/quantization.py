"""Quantised networks: integers between Quantize and Dequantize travel as floats that hold them.

So whatever moves, pools or compares them in between works unchanged, and a cast to float does
nothing. Rounding stops gradients: a quantised network teaches, but is not to be trained.
"""

from typing import Any

import numpy as np
import onnx
from keras import ops

from keras_amalgam.teachers.conversion.layout import Value, aligned_constant
from keras_amalgam.teachers.conversion.operators.call import MAX_LITERAL, Call
from keras_amalgam.teachers.conversion.operators.registry import register_operator

_RANGES = {
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (4, 8, 16)},
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (4, 8, 16)},
}


@register_operator("QuantizeLinear", since=10)
def quantize_linear(call: Call) -> Value:
    """ops.round of the quotient, clipped to the integers' range; a float holds the integers."""
    value = call.value()
    scale = _parameter(call, 1, value)
    lowest, highest = _range(call)
    steps = call.write.operation(ops.divide, value.tensor, scale, part="steps")
    rounded = call.write.operation(ops.round, steps, part="round")
    zero_point = _zero_point(call, value)
    if zero_point is not None:
        rounded = call.write.sum(rounded, zero_point, "zero_point")
    return value.with_tensor(call.write.operation(ops.clip, rounded, lowest, highest))


@register_operator("DequantizeLinear", since=10)
def dequantize_linear(call: Call) -> Value:
    """ops.multiply of the integers less the zero point; of constants a constant."""
    value = call.value()
    scale = _parameter(call, 1, value)
    tensor = value.tensor
    if tensor.dtype != "float32":  # Images that enter as integers.
        tensor = call.write.operation(ops.cast, tensor, "float32", part="cast")
    zero_point = _zero_point(call, value)
    if zero_point is not None:
        tensor = call.write.operation(ops.subtract, tensor, zero_point, part="zero_point")
    return value.with_tensor(call.write.operation(ops.multiply, tensor, scale))


def _range(call: Call) -> tuple[float, float]:
    """The smallest and the largest integer of the quantised type."""
    zero_point = call.inputs[2] if call.has(2) else None
    if isinstance(zero_point, np.ndarray):
        name = zero_point.dtype.name
    else:
        code = call.attribute("output_dtype", 0) or onnx.TensorProto.UINT8
        name = onnx.helper.tensor_dtype_to_np_dtype(code).name
    if name not in _RANGES:
        raise call.refusal(f"it quantises to {name}; known are {', '.join(_RANGES)}")
    lowest, highest = _RANGES[name]
    return float(lowest), float(highest)


def _parameter(call: Call, index: int, value: Value) -> Any:
    """A scale or zero point as it meets the value: one number, or one along the node's axis."""
    if call.attribute("block_size", 0):
        raise call.refusal("quantising in blocks (block_size) is not known")
    array = call.constant(index)
    if array.size > 1:
        sizes = [1] * value.rank
        sizes[call.attribute("axis", 1) % value.rank] = array.size
        array = array.reshape(sizes)
    aligned = aligned_constant(array, value)
    if isinstance(aligned, np.ndarray) and aligned.size > MAX_LITERAL:
        return call.write.weight(aligned, "scale" if index == 1 else "zeros")
    return aligned


def _zero_point(call: Call, value: Value) -> Any:
    """The zero point; `None` if it is zero throughout."""
    if not call.has(2) or not np.any(call.constant(2)):
        return None
    return _parameter(call, 2, value)

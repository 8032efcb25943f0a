"""Operators that only rearrange, look at sizes, or do nothing when inferring."""

import math

import numpy as np
import onnx
from keras import ops

from keras_amalgam.teachers.folding import BATCH
from keras_amalgam.teachers.layout import Value, reshaped, transposed
from keras_amalgam.teachers.operators.call import Call
from keras_amalgam.teachers.operators.registry import Result, operator


@operator("Identity", since=1)
def identity(call: Call) -> Value:
    """Nothing."""
    return call.value()


@operator("Dropout", since=7)
def dropout(call: Call) -> Value:
    """Nothing."""
    if call.has(2) and bool(call.constant(2)):
        raise call.refusal("it is in training mode. Export the network in evaluation mode")
    return call.value()


@operator("Cast", since=6)
def cast(call: Call) -> Value:
    """Nothing between floating-point types, else ops.cast."""
    value = call.value()
    target = onnx.helper.tensor_dtype_to_np_dtype(call.attribute("to"))
    is_float = np.issubdtype(target, np.floating)
    if not is_float:
        raise call.refusal(f"a tensor that depends on the image cannot become {target.name}")
    if value.tensor.dtype == "float32":
        return value
    return value.with_tensor(call.write.operation(ops.cast, value.tensor, "float32"))


@operator("Transpose", since=1)
def transpose(call: Call) -> Value:
    """Nothing: the order of the axes is kept beside the tensor."""
    value = call.value()
    return transposed(value, call.attribute("perm", list(reversed(range(value.rank)))))


@operator("Shape", since=1)
def shape(call: Call) -> Result:
    """A constant."""
    sizes = call.value().sizes
    start, end = call.attribute("start", 0), call.attribute("end", len(sizes))
    return np.array(sizes[start:end], np.int64)


@operator("Flatten", since=1)
def flatten(call: Call) -> Value:
    """Flatten; a dense layer that follows takes up the order."""
    value = call.value()
    axis = call.attribute("axis", 1)
    if axis % value.rank != 1:
        raise call.refusal(f"flattening from axis {axis} merges the batch with another axis")
    return reshaped(call.write, value, [BATCH, math.prod(value.sizes[1:])])


@operator("Reshape", since=5)
def reshape(call: Call) -> Value:
    """Reshape or Flatten; Permute only where merged axes do not stand together."""
    value = call.value()
    target = [int(n) for n in call.constant(1).reshape(-1)]
    if not call.attribute("allowzero", 0):
        target = [value.sizes[i] if n == 0 else n for i, n in enumerate(target)]
    return reshaped(call.write, value, target)


@operator("Squeeze", since=1)
def squeeze(call: Call) -> Value:
    """Reshape."""
    value = call.value()
    axes = call.integers(1, "axes")
    if axes is None:
        axes = [axis for axis, size in enumerate(value.sizes) if size == 1]
    gone = {axis % value.rank for axis in axes}
    return reshaped(call.write, value, [n for i, n in enumerate(value.sizes) if i not in gone])


@operator("Unsqueeze", since=1)
def unsqueeze(call: Call) -> Value:
    """Reshape."""
    value = call.value()
    axes = call.integers(1, "axes") or []
    rank = value.rank + len(axes)
    new = {axis % rank for axis in axes}
    sizes = iter(value.sizes)
    return reshaped(call.write, value, [1 if i in new else next(sizes) for i in range(rank)])

"""Operators that only rearrange, look at sizes, or do nothing when inferring."""

import math

import numpy as np
import onnx
from keras import ops

from keras_amalgam.teachers.conversion.layout import Rows, Value, transposed
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import Result, register_operator
from keras_amalgam.teachers.conversion.reshaping import reshaped, reshaped_or_rows


@register_operator("Identity", since=1)
def identity(call: Call) -> Value:
    """Nothing."""
    return call.value()


@register_operator("Dropout", since=7)
def dropout(call: Call) -> Value:
    """Nothing."""
    if call.has(2) and bool(call.constant(2)):
        raise call.refusal("it is in training mode. Export the network in evaluation mode")
    return call.value()


@register_operator("Cast", since=6)
def cast(call: Call) -> Value:
    """Nothing between floating-point types, else ops.cast."""
    return _cast(call, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(call.attribute("to"))))


@register_operator("CastLike", since=15)
def cast_like(call: Call) -> Result:
    """As Cast, to the type of the second input."""
    like = call.inputs[1]
    to = np.dtype(like.dtype if isinstance(like, np.ndarray) else call.value(1).tensor.dtype)
    given = call.inputs[0]
    return given.astype(to) if isinstance(given, np.ndarray) else _cast(call, to)


def _cast(call: Call, target: np.dtype) -> Value:
    value = call.value()
    given = np.dtype(value.tensor.dtype)
    if target == np.bool_ and given != np.bool_:
        return value.with_tensor(call.write.operation(ops.not_equal, value.tensor, 0))
    if not any(np.issubdtype(target, kind) for kind in (np.floating, np.integer, np.bool_)):
        raise call.refusal(f"the type {target.name!r} is not known")  # None of NumPy's own.
    # Keras' own integers are 32 bits wide; half precision is computed in full.
    kind = "float32" if np.issubdtype(target, np.floating) else "int32"
    kind = "bool" if target == np.bool_ else kind
    if kind == "int32" and np.iinfo(target).bits < 32 and np.dtype(target) != given:
        raise call.refusal(f"it casts to {np.dtype(target)}, where larger numbers wrap around")
    if value.tensor.dtype == kind:
        return value
    return value.with_tensor(call.write.operation(ops.cast, value.tensor, kind))


@register_operator("Transpose", since=1)
def transpose(call: Call) -> Value:
    """Nothing: the order of the axes is kept beside the tensor."""
    value = call.value()
    return transposed(value, call.attribute("perm", list(reversed(range(value.rank)))))


@register_operator("Shape", since=1)
def shape(call: Call) -> Result:
    """A constant."""
    sizes = call.value_or_rows().sizes
    start, end = call.attribute("start", 0), call.attribute("end", len(sizes))
    return np.array(sizes[start:end], np.int64)


@register_operator("Flatten", since=1)
def flatten(call: Call) -> Value | Rows:
    """Flatten; a dense layer that follows takes up the order."""
    value = call.value_or_rows()
    axis = call.attribute("axis", 1)
    axis += value.rank if axis < 0 else 0
    target = [math.prod(value.sizes[:axis]), math.prod(value.sizes[axis:])]
    return reshaped_or_rows(call.write, value, target, call.images_in_file())


@register_operator("Reshape", since=5)
def reshape(call: Call) -> Value | Rows:
    """Reshape or Flatten; Permute only where merged axes do not stand together."""
    value = call.value_or_rows()
    target = [int(n) for n in call.constant(1).reshape(-1)]
    if not call.attribute("allowzero", 0):
        target = [value.sizes[i] if n == 0 else n for i, n in enumerate(target)]
    return reshaped_or_rows(call.write, value, target, call.images_in_file())


@register_operator("Squeeze", since=1)
def squeeze(call: Call) -> Value:
    """Reshape."""
    value = call.value()
    axes = call.integers(1, "axes")
    if axes is None:
        axes = [axis for axis, size in enumerate(value.sizes) if size == 1]
    gone = {axis % value.rank for axis in axes}
    return reshaped(call.write, value, [n for i, n in enumerate(value.sizes) if i not in gone])


@register_operator("Unsqueeze", since=1)
def unsqueeze(call: Call) -> Value:
    """Reshape."""
    value = call.value()
    axes = call.integers(1, "axes") or []
    rank = value.rank + len(axes)
    new = {axis % rank for axis in axes}
    if len(new) != len(axes):
        raise ValueError(f"axes {axes} are given twice")
    sizes = iter(value.sizes)
    return reshaped(call.write, value, [1 if i in new else next(sizes) for i in range(rank)])

"""Softmax and its kin: what turns the numbers along an axis into shares of one."""

import math

from keras import layers, ops

from keras_amalgam.teachers.conversion.layout import Value, in_source_columns, needs_size, to_order
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.reductions import is_extreme
from keras_amalgam.teachers.conversion.operators.registry import register_operator
from keras_amalgam.teachers.conversion.reshaping import reshaped


@register_operator("Softmax", since=1)
def softmax_over_the_rest(call: Call) -> Value:
    """Softmax over one axis; before opset 13 over all axes from it on."""
    return _softmax(call, _axes_of_the_rest(call))


@register_operator("Softmax", since=13)
def softmax(call: Call) -> Value:
    """Softmax over one axis; before opset 13 over all axes from it on."""
    return _softmax(call, _axis(call))


def _softmax(call: Call, axis: int | tuple[int, ...]) -> Value:
    value = call.value()
    if isinstance(axis, int) and value.tensor.shape[axis] == 1:
        # Of one number, of which Keras warns: an attention to a single token does this.
        return value.with_tensor(call.write.operation(ops.ones_like, value.tensor))
    if isinstance(axis, int) and set(value.tensor.shape[axis + 1 :]) == {1}:
        # Only the last axis needs no transposition, and axes of size 1 move freely.
        order = value.order
        value = to_order(call.write, value, (*order[:axis], *order[axis + 1 :], order[axis]))
        axis = value.rank - 1
    return value.with_tensor(call.write.layer(layers.Softmax, value.tensor, axis=axis))


@register_operator("LogSoftmax", since=1)
def log_softmax_over_the_rest(call: Call) -> Value:
    """ops.subtract of ops.logsumexp."""
    value = call.value()
    axes = _axes_of_the_rest(call)
    total = call.write.operation(
        ops.logsumexp, value.tensor, axis=axes, keepdims=True, part="total"
    )
    return value.with_tensor(call.write.operation(ops.subtract, value.tensor, total))


@register_operator("LogSoftmax", since=13)
def log_softmax(call: Call) -> Value:
    """ops.log_softmax over one axis; before opset 13 over all axes from it on."""
    value = call.value()
    return value.with_tensor(call.write.operation(ops.log_softmax, value.tensor, axis=_axis(call)))


@register_operator("Hardmax", since=1)
def hardmax_over_the_rest(call: Call) -> Value:
    """ops.one_hot of ops.argmax over one axis; before opset 13 over all axes from it on."""
    value = call.value()
    first = _source_axis(call, 1)
    rest = math.prod(value.sizes[first:])
    merged = reshaped(call.write, value, (*value.sizes[:first], rest))
    return reshaped(call.write, _hardmax(call, merged, -1), value.sizes)


@register_operator("Hardmax", since=13)
def hardmax(call: Call) -> Value:
    """ops.one_hot of ops.argmax over one axis; before opset 13 over all axes from it on."""
    return _hardmax(call, call.value(), _source_axis(call, -1))


def _hardmax(call: Call, value: Value, source_axis: int) -> Value:
    value = in_source_columns(call.write, value)  # Of several maxima, the source takes the first.
    axis = value.axis(source_axis)
    width = value.tensor.shape[axis]
    if width is None:
        raise needs_size("it needs the image's size")
    found = is_extreme(call, value.tensor, axis, ops.max)
    where = call.write.operation(ops.argmax, found, axis=axis, part="argmax")
    last = axis == value.rank - 1  # Keras knows the last axis as -1 only.
    return value.with_tensor(
        call.write.operation(ops.one_hot, where, width, axis=-1 if last else axis)
    )


def _source_axis(call: Call, default: int) -> int:
    """The axis that the node names, counted from the front; never the batch."""
    value = call.value()
    axis = call.attribute("axis", default) % value.rank
    if axis == value.order[0]:
        raise call.refusal("it works across the batch, not on each image")
    return axis


def _axis(call: Call) -> int:
    """The Keras axis that the node names since opset 13."""
    return call.value().axis(_source_axis(call, -1))


def _axes_of_the_rest(call: Call) -> int | tuple[int, ...]:
    """Keras axes of the matrix that older opsets flatten a tensor to, size-1 axes left out."""
    value = call.value()
    first = _source_axis(call, 1)
    axes = [value.axis(axis) for axis in range(first, value.rank) if value.sizes[axis] != 1]
    return tuple(sorted(axes)) if len(axes) > 1 else (*axes, value.axis(first))[0]

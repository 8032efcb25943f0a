"""Sums, means, norms and extremes over axes, running sums, and where the extremes are."""

from dataclasses import dataclass, replace
from typing import Any

from keras import layers, ops

from keras_amalgam.teachers.conversion.layout import (
    Value,
    channels_last,
    in_source_columns,
    needs_size,
    to_order,
    without_axes,
)
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import register_operator


@dataclass(frozen=True)
class _Reduction:
    """What happens to the elements before, over the axes, and to the result.

    Args:
        over: Function of a tensor and its axes.
        before: Function of one tensor, if any.
        after: As `before`.
        pooling: The layer that does it over an image, if there is one.
    """

    over: Any
    before: Any = None
    after: Any = None
    pooling: Any = None

    def __str__(self) -> str:
        """What the operator becomes."""
        steps = [f for f in (self.after, self.over, self.before) if f is not None]
        text = " of ".join(f"ops.{function.__name__}" for function in steps)
        return f"{self.pooling.__name__} over the image, else {text}" if self.pooling else text


_REDUCTIONS = {
    "ReduceL1": _Reduction(ops.sum, before=ops.absolute),
    "ReduceL2": _Reduction(ops.sum, before=ops.square, after=ops.sqrt),
    "ReduceLogSum": _Reduction(ops.sum, after=ops.log),
    "ReduceLogSumExp": _Reduction(ops.logsumexp),
    "ReduceMax": _Reduction(ops.max, pooling=layers.GlobalMaxPooling2D),
    "ReduceMean": _Reduction(ops.mean, pooling=layers.GlobalAveragePooling2D),
    "ReduceMin": _Reduction(ops.min),
    "ReduceProd": _Reduction(ops.prod),
    "ReduceSum": _Reduction(ops.sum),
    "ReduceSumSquare": _Reduction(ops.sum, before=ops.square),
}


def _register_reduction(name: str, reduction: _Reduction) -> None:
    def handler(call: Call) -> Value:
        axes = call.integers(1, "axes") or []
        if not axes and call.attribute("noop_with_empty_axes", 0):
            # No axis is reduced, yet runtimes still do what comes before and after.
            return _each(call, call.value(), (reduction.before, reduction.after))
        return _reduced(call, reduction, axes)

    handler.__doc__ = f"{reduction}."
    register_operator(name, since=1)(handler)


for _name, _reduction in _REDUCTIONS.items():
    _register_reduction(_name, _reduction)


def _reduced(call: Call, reduction: _Reduction, axes: list[int]) -> Value:
    value = call.value()
    if not axes:
        raise call.refusal(
            "it names no axes, so it reduces the batch with all others. Export the network with "
            "the axes named"
        )
    axes = sorted({_own_axis(call, value, axis) for axis in axes})
    keepdims = bool(call.attribute("keepdims", 1))
    held = tuple(sorted(value.axis(axis) for axis in axes))
    if reduction.pooling and value.order == channels_last(4) and held == (1, 2):
        tensor = call.write.layer(reduction.pooling, value.tensor, keepdims=keepdims)
    else:
        tensor = value.tensor
        if reduction.before is not None:
            part = reduction.before.__name__
            tensor = call.write.operation(reduction.before, tensor, part=part)
        part = reduction.over.__name__ if reduction.after is not None else ""
        tensor = call.write.operation(
            reduction.over, tensor, axis=held, keepdims=keepdims, part=part
        )
        if reduction.after is ops.sqrt:
            tensor = _root(call, tensor)
        elif reduction.after is not None:
            tensor = call.write.operation(reduction.after, tensor)
    return _with_axes(value, tensor, axes, keepdims)


def _root(call: Call, tensor: Any) -> Any:
    """A root whose slope at zero, which is infinite, makes no gradient of a zero vector a NaN."""
    is_zero = call.write.operation(ops.equal, tensor, 0, part="is_zero")
    tensor = call.write.operation(ops.where, is_zero, 1.0, tensor, part="nonzero")
    tensor = call.write.operation(ops.sqrt, tensor, part="sqrt")
    return call.write.operation(ops.where, is_zero, 0.0, tensor)


def _each(call: Call, value: Value, functions: tuple[Any, ...]) -> Value:
    steps = [function for function in functions if function is not None]
    tensor = value.tensor
    for index, function in enumerate(steps, 1):
        part = function.__name__ if index < len(steps) else ""
        tensor = call.write.operation(function, tensor, part=part)
    return value.with_tensor(tensor)


def _own_axis(call: Call, value: Value, axis: int) -> int:
    """A source axis, counted from the front.

    Raises:
        NotImplementedError: If it is the batch.
    """
    if not -value.rank <= axis < value.rank:
        raise ValueError(f"axis {axis} of a tensor of {value.rank} axes")
    if axis % value.rank == value.order[0]:
        raise call.refusal(f"it reduces the batch (axis {axis}), not each image on its own")
    return axis % value.rank


def _with_axes(value: Value, tensor: Any, axes: list[int], keepdims: bool) -> Value:
    """A result whose axes are reduced to one element, or gone."""
    order = value.order if keepdims else without_axes(value.order, axes)
    return replace(value, tensor=tensor, order=order, columns=None)


@register_operator("ArgMax", since=1)
def arg_max(call: Call) -> Value:
    """ops.argmax of where ops.max is, flipped if the last of several maxima counts."""
    return _place_of_extreme(call, ops.max)


@register_operator("ArgMin", since=1)
def arg_min(call: Call) -> Value:
    """ops.argmax of where ops.min is, flipped if the last of several minima counts."""
    return _place_of_extreme(call, ops.min)


def _place_of_extreme(call: Call, extreme: Any) -> Value:
    value = in_source_columns(call.write, call.value())
    source_axis = _own_axis(call, value, call.attribute("axis", 0))
    axis = value.axis(source_axis)
    keepdims = bool(call.attribute("keepdims", 1))
    found = is_extreme(call, value.tensor, axis, extreme)
    if call.attribute("select_last_index", 0):
        found = call.write.operation(ops.flip, found, axis=axis, part="flip")
        behind = call.write.operation(ops.argmax, found, axis=axis, keepdims=keepdims, part="place")
        tensor = call.write.operation(ops.subtract, _size(call, value, axis) - 1, behind)
    else:
        tensor = call.write.operation(ops.argmax, found, axis=axis, keepdims=keepdims)
    return _with_axes(value, tensor, [source_axis], keepdims)


def is_extreme(call: Call, tensor: Any, axis: int, extreme: Any) -> Any:
    """1 where the tensor has its extreme along an axis, else 0.

    Of integers, `ops.argmax` is TensorFlow's own; of floats it looks at their bits, which TFLite
    cannot, and takes −0 for less than 0.

    Args:
        call: The node.
        tensor: Any shape.
        axis: Of the tensor.
        extreme: `ops.max` or `ops.min`.
    """
    highest = call.write.operation(extreme, tensor, axis=axis, keepdims=True, part="extreme")
    found = call.write.operation(ops.equal, tensor, highest, part="equal")
    return call.write.operation(ops.cast, found, "int32", part="found")


def _size(call: Call, value: Value, axis: int) -> int:
    size = value.tensor.shape[axis]
    if size is None:
        raise needs_size("it divides by the image's size")
    return size


@register_operator("CumSum", since=11)
def cumulative_sum(call: Call) -> Value:
    """ops.cumsum, of the flipped tensor in reverse, less the tensor itself if exclusive."""
    value = in_source_columns(call.write, call.value())
    axis = value.axis(_own_axis(call, value, int(call.constant(1).reshape(()))))
    reverse, exclusive = call.attribute("reverse", 0), call.attribute("exclusive", 0)
    tensor = value.tensor
    if reverse:
        tensor = call.write.operation(ops.flip, tensor, axis=axis, part="flip")
    part = "cumsum" if reverse or exclusive else ""
    tensor = call.write.operation(ops.cumsum, tensor, axis=axis, part=part)
    if reverse:
        part = "back" if exclusive else ""
        tensor = call.write.operation(ops.flip, tensor, axis=axis, part=part)
    if exclusive:
        tensor = call.write.operation(ops.subtract, tensor, value.tensor)
    return value.with_tensor(tensor)


@register_operator("TopK", since=1)
def top_k(call: Call) -> tuple[Value, Value]:
    """ops.top_k, of the negative tensor for the smallest; indices only if they are read."""
    value = in_source_columns(call.write, call.value())
    k = int(call.constant(1).reshape(())) if call.has(1) else call.attribute("k")
    source_axis = _own_axis(call, value, call.attribute("axis", -1))
    others = [axis for axis in value.order if axis != source_axis]
    value = to_order(call.write, value, (*others, source_axis))
    tensor, largest = value.tensor, bool(call.attribute("largest", 1))
    if not largest:
        tensor = call.write.operation(ops.negative, tensor, part="negative")
    # Two operations: what is not read is not part of the model, and tracing merges the others.
    values = call.write.operation(_largest, tensor, k, part="" if largest else "values")
    if not largest:
        values = call.write.operation(ops.negative, values)
    indices = call.write.operation(_places_of_largest, tensor, k, part="indices")
    return value.with_tensor(values), value.with_tensor(indices)


def _largest(tensor: Any, k: int) -> Any:
    return ops.top_k(tensor, k)[0]


def _places_of_largest(tensor: Any, k: int) -> Any:
    return ops.top_k(tensor, k)[1]

"""Means, sums and extremes over axes."""

from typing import Any

from keras import layers, ops

from keras_amalgam.teachers.layout import Value, channels_last
from keras_amalgam.teachers.operators.call import Call
from keras_amalgam.teachers.operators.registry import operator


def _register_reduction(name: str, function: Any, pooling: Any = None) -> None:
    """A reduction: a global pooling over height and width if there is one, else a function."""

    def handler(call: Call) -> Value:
        value = call.value()
        axes = sorted({axis % value.rank for axis in call.integers(1, "axes") or ()})
        if not axes and call.attribute("noop_with_empty_axes", 0):
            return value
        if not axes or value.order[0] in axes:
            raise call.refusal("it reduces the batch")
        keepdims = bool(call.attribute("keepdims", 1))
        held = tuple(sorted(value.axis(axis) for axis in axes))
        if pooling is not None and value.order == channels_last(4) and held == (1, 2):
            tensor = call.write.layer(pooling, value.tensor, keepdims=keepdims)
        else:
            tensor = call.write.operation(function, value.tensor, axis=held, keepdims=keepdims)
        return Value(tensor, value.order if keepdims else _without(value.order, axes))

    by_function = f"ops.{function.__name__}"
    handler.__doc__ = (
        f"{pooling.__name__} over the image, else {by_function}" if pooling else by_function
    )
    operator(name, since=1)(handler)


def _without(order: tuple[int, ...], axes: list[int]) -> tuple[int, ...]:
    """The order once source axes are gone and those behind them have moved up."""
    kept = [axis for axis in order if axis not in axes]
    return tuple(axis - sum(gone < axis for gone in axes) for axis in kept)


for _name, _function, _pooling in (
    ("ReduceMean", ops.mean, layers.GlobalAveragePooling2D),
    ("ReduceMax", ops.max, layers.GlobalMaxPooling2D),
    ("ReduceMin", ops.min, None),
    ("ReduceSum", ops.sum, None),
):
    _register_reduction(_name, _function, _pooling)

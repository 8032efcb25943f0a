"""Padding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.conversion.layout import Value, as_source, channels_last
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import register_operator
from keras_amalgam.teachers.conversion.operators.windows import MAX_PIXELS, Pads, within_bounds


@register_operator("Pad", since=1)
def pad(call: Call) -> Value:
    """ZeroPadding2D for zeros around a map, ops.pad, or a slice where pads are negative."""
    return _pad(call, call.attribute("pads"), call.attribute("value", 0.0))


@register_operator("Pad", since=11)
def pad_by_inputs(call: Call) -> Value:
    """ZeroPadding2D for zeros around a map, ops.pad or ops.take, a slice for negative pads."""
    rank = call.value().rank
    amounts = [int(n) for n in call.constant(1).reshape(-1)]
    axes = [int(axis) % rank for axis in call.constant(3, np.arange(rank))]
    if len(amounts) != 2 * len(axes):
        raise ValueError(f"{len(axes)} axes need {2 * len(axes)} pads, not {amounts}")
    pads = [0] * (2 * rank)
    for position, axis in enumerate(axes):
        pads[axis], pads[rank + axis] = amounts[position], amounts[len(axes) + position]
    fill = call.constant(2)
    return _pad(call, pads, 0.0 if fill is None else float(fill.reshape(())))


def _pad(call: Call, pads: Sequence[int], fill: float) -> Value:
    value = call.value()
    if value.columns is not None:
        value = as_source(call.write, value)
    if not any(pads):
        return value
    within_bounds(pads, -MAX_PIXELS)
    by_source_axis = list(zip(pads[: value.rank], pads[value.rank :], strict=True))
    amounts = tuple(by_source_axis[axis] for axis in value.order)
    if amounts[0] != (0, 0):
        raise call.refusal(f"pads {list(pads)} that pad the batch are not known")
    mode = call.attribute("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise call.refusal(f"its mode {mode!r} is not known")
    width = tuple((max(before, 0), max(behind, 0)) for before, behind in amounts)
    crops = tuple((max(-before, 0), max(-behind, 0)) for before, behind in amounts)
    tensor, is_padded = value.tensor, any(map(any, width))
    if any(map(any, crops)):
        part = "crop" if is_padded else ""
        tensor = call.write.operation(_cropped, tensor, crops, part=part)
    if not is_padded:
        return value.with_tensor(tensor)
    _require_pixels(tensor, width, mode)
    if mode == "reflect":
        tensor = call.write.operation(ops.pad, tensor, width, mode="reflect")
    elif mode != "constant":
        tensor = _bordered(call, tensor, width, mode)
    elif fill == 0 and value.order == channels_last(4) and width[3] == (0, 0):
        tensor = call.write.layer(layers.ZeroPadding2D, tensor, padding=width[1:3])
    else:
        tensor = call.write.operation(ops.pad, tensor, width, constant_values=fill)
    return value.with_tensor(tensor)


def _require_pixels(tensor: Any, width: Pads, mode: str) -> None:
    """A reflection or a round takes as many pixels of the tensor as it adds.

    Raises:
        ValueError: If there are not as many.
    """
    spare = {"wrap": 0, "reflect": 1}.get(mode)
    for size, amounts in zip(tensor.shape[1:], width[1:], strict=True):
        if spare is not None and size is not None and max(amounts) > size - spare:
            raise ValueError(f"{max(amounts)} pixels cannot be taken of {size} (mode {mode!r})")


def _cropped(tensor: Any, crops: Pads) -> Any:
    return tensor[tuple(slice(before, -behind or None) for before, behind in crops)]


def _bordered(call: Call, tensor: Any, width: Pads, mode: str) -> Any:
    """A border of the tensor's own pixels, axis after axis: the last ones, or all round."""
    axes = [axis for axis, amounts in enumerate(width) if any(amounts)]
    for axis in axes:
        before, behind = width[axis]
        front = np.zeros(before, int) if mode == "edge" else np.arange(-before, 0)
        back = np.full(behind, -1) if mode == "edge" else np.arange(behind)
        front, back = (
            [call.write.operation(ops.take, tensor, pixels, axis=axis, part="border")]
            if pixels.size
            else []
            for pixels in (front, back)
        )
        part = "" if axis == axes[-1] else "joined"
        tensor = call.write.layer(layers.Concatenate, [*front, tensor, *back], part, axis=axis)
    return tensor

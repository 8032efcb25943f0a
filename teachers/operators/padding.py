"""Padding."""

from collections.abc import Sequence

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.layout import Value, as_source, channels_last
from keras_amalgam.teachers.operators.call import Call
from keras_amalgam.teachers.operators.registry import operator


@operator("Pad", since=2)
def pad(call: Call) -> Value:
    """ZeroPadding2D for zeros around a map, else ops.pad."""
    return _pad(call, call.attribute("pads"), call.attribute("value", 0.0))


@operator("Pad", since=11)
def pad_by_inputs(call: Call) -> Value:
    """ZeroPadding2D for zeros around a map, else ops.pad."""
    rank = call.value().rank
    amounts = [int(n) for n in call.constant(1).reshape(-1)]
    axes = [int(axis) % rank for axis in call.constant(3, np.arange(rank))]
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
    by_source_axis = list(zip(pads[: value.rank], pads[value.rank :], strict=True))
    width = tuple(by_source_axis[axis] for axis in value.order)
    if min(pads) < 0 or width[0] != (0, 0):
        raise call.refusal(f"pads {list(pads)} that crop, or pad the batch, are not known")
    mode = call.attribute("mode", "constant")
    if mode not in ("constant", "reflect"):
        raise call.refusal(f"its mode {mode!r} is not known")
    around = width[1:3]
    if mode == "constant" and fill == 0 and value.order == channels_last(4) and width[3] == (0, 0):
        tensor = call.write.layer(layers.ZeroPadding2D, value.tensor, padding=around)
    elif mode == "constant":
        tensor = call.write.operation(ops.pad, value.tensor, width, constant_values=fill)
    else:
        tensor = call.write.operation(ops.pad, value.tensor, width, mode="reflect")
    return value.with_tensor(tensor)

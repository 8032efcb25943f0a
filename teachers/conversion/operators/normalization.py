"""Normalizations: with running statistics, and with those of each image."""

import math
from operator import getitem
from typing import Any

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.conversion.layout import Value, in_source_columns, needs_size, to_order
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import register_operator
from keras_amalgam.teachers.conversion.passes.folding import OPEN

_MOST_NEIGHBOURS = 256


@register_operator("BatchNormalization", since=7)
def batch_normalization(call: Call) -> Value:
    """BatchNormalization with the source's epsilon and running statistics."""
    if call.attribute("training_mode", 0):
        raise call.refusal("it is in training mode. Export the network in evaluation mode")
    if not call.attribute("spatial", 1):
        raise call.refusal("statistics of every pixel (spatial=0) are not known")
    value = call.value()
    weights = [call.constant(index) for index in (1, 2, 3, 4)]  # scale, offset, mean, variance
    if value.columns is not None:
        weights = [weight[value.columns] for weight in weights]
    tensor = call.write.layer(
        layers.BatchNormalization,
        value.tensor,
        weights=weights,
        axis=value.axis(1),
        epsilon=call.attribute("epsilon", 1e-5),
        momentum=call.attribute("momentum", 0.9),
    )
    return value.with_tensor(tensor)


@register_operator("InstanceNormalization", since=1)
def instance_normalization(call: Call) -> Value:
    """GroupNormalization with as many groups as channels."""
    return _group_normalized(call, len(call.constant(1)), call.constant(1), call.constant(2))


@register_operator("GroupNormalization", since=18)
def group_normalization_with_group_weights(call: Call) -> Value:
    """GroupNormalization; before opset 21 every channel gets its group's scale and offset."""
    value, groups = call.value(), call.attribute("num_groups")
    channels = value.tensor.shape[value.axis(1)]
    weights = [np.repeat(call.constant(index), channels // groups) for index in (1, 2)]
    return _group_normalized(call, groups, *weights)


@register_operator("GroupNormalization", since=21)
def group_normalization(call: Call) -> Value:
    """GroupNormalization; before opset 21 every channel gets its group's scale and offset."""
    if call.has(3) and not _is_restored(call, 3):
        raise call.refusal("its groups are normalized in one shape and scaled in another")
    return _group_normalized(call, call.attribute("num_groups"), call.constant(1), call.constant(2))


def _is_restored(call: Call, index: int) -> bool:
    """Whether a reshape of the value to given sizes changes nothing."""
    images = call.images_in_file()
    return all(
        len(target) == len(sizes)
        and target[0] in (0, -1, images, sizes[0])
        and all(t in (0, -1, size) for t, size in zip(target[1:], sizes[1:], strict=True))
        for target, sizes in zip(call.readings(index), call.sizes(0), strict=True)
    )


def _group_normalized(call: Call, groups: int, scale: np.ndarray, offset: np.ndarray) -> Value:
    value = in_source_columns(call.write, call.value())
    tensor = call.write.layer(
        layers.GroupNormalization,
        value.tensor,
        weights=[scale, offset],
        groups=groups,
        axis=value.axis(1),
        epsilon=call.attribute("epsilon", 1e-5),
    )
    return value.with_tensor(tensor)


@register_operator("LayerNormalization", since=17)
def layer_normalization(call: Call) -> Value:
    """LayerNormalization over the source's last axes, wherever they are held."""
    value = call.value()
    axes = _axes_from(call, value)
    weights = [_along(call, index, value, axes) for index in (1, 2) if call.has(index)]
    tensor = call.write.layer(
        layers.LayerNormalization,
        value.tensor,
        weights=weights,
        axis=axes,
        epsilon=call.attribute("epsilon", 1e-5),
        center=call.has(2),
    )
    return value.with_tensor(tensor)


@register_operator("RMSNormalization", since=23)
def rms_normalization(call: Call) -> Value:
    """RMSNormalization over the source's last axes, wherever they are held."""
    value = call.value()
    axes = _axes_from(call, value)
    if axes != list(range(value.rank))[-len(axes) :]:
        # Keras' layer multiplies its scale to the last axes, whichever it normalizes over.
        batch, *others = value.order
        value = to_order(call.write, value, (batch, *sorted(others)))
        axes = _axes_from(call, value)
    tensor = call.write.layer(
        layers.RMSNormalization,
        value.tensor,
        weights=[_along(call, 1, value, axes)],
        axis=axes,
        epsilon=call.attribute("epsilon", 1e-5),
    )
    return value.with_tensor(tensor)


def _axes_from(call: Call, value: Value) -> list[int]:
    """The Keras axes that hold the source's axes from the node's on, in Keras' sequence."""
    first = call.attribute("axis", -1) % value.rank
    axes = list(range(first, value.rank))
    return sorted(value.axis(axis) for axis in _own_axes(call, value, axes))


def _own_axes(call: Call, value: Value, axes: list[int]) -> list[int]:
    """Source axes counted from the front.

    Raises:
        NotImplementedError: If the batch is among them.
    """
    axes = sorted(axis % value.rank for axis in axes)
    if value.order[0] in axes:
        raise call.refusal(f"it normalizes across the batch (axes {axes}), not each image")
    return axes


def _along(call: Call, index: int, value: Value, axes: list[int]) -> np.ndarray:
    """A weight with one number for each element of some Keras axes."""
    held = [value.order[axis] for axis in axes]
    sizes = [value.sizes[axis] for axis in sorted(held)]
    weight = call.constant(index)
    if OPEN in sizes:
        raise needs_size("its weights span the image's size")
    ones = max(weight.ndim - len(sizes), 0)  # Weights may have axes of one element in front.
    if any(size != 1 for size in weight.shape[:ones]):
        raise call.refusal(f"its weight of shape {weight.shape} differs beyond the axes {sizes}")
    weight = np.broadcast_to(weight.reshape(weight.shape[ones:]), sizes)
    weight = weight.transpose([sorted(held).index(axis) for axis in held])
    return weight if value.columns is None else weight[value.columns]


@register_operator("MeanVarianceNormalization", since=9)
def mean_variance_normalization(call: Call) -> Value:
    """ops.mean taken off, divided by ops.std."""
    value = call.value()
    axes = _own_axes(call, value, call.attribute("axes", [0, 2, 3]))
    held = tuple(sorted(value.axis(axis) for axis in axes))
    write, tensor = call.write.operation, value.tensor
    mean = write(ops.mean, tensor, axis=held, keepdims=True, part="mean")
    deviation = write(ops.std, tensor, axis=held, keepdims=True, part="std")
    deviation = write(ops.add, deviation, 1e-9, part="epsilon")  # The standard's own.
    centred = write(ops.subtract, tensor, mean, part="centred")
    return value.with_tensor(write(ops.divide, centred, deviation))


@register_operator("LpNormalization", since=1)
def lp_normalization(call: Call) -> Value:
    """Division by the sum of ops.absolute, or by ops.sqrt of the sum of ops.square."""
    value = call.value()
    power = call.attribute("p", 2)
    axis = value.axis(_own_axes(call, value, [call.attribute("axis", -1)])[0])
    write, tensor = call.write.operation, value.tensor
    sizes = write(ops.absolute if power == 1 else ops.square, tensor, part="sizes")
    norm = write(ops.sum, sizes, axis=axis, keepdims=True, part="sum")
    is_zero = write(ops.equal, norm, 0, part="is_zero")
    norm = write(ops.where, is_zero, 1.0, norm, part="nonzero")
    if power != 1:  # A root's slope at zero is infinite.
        norm = write(ops.sqrt, norm, part="sqrt")
    return value.with_tensor(write(ops.divide, tensor, norm))


@register_operator("LRN", since=1)
def local_response_normalization(call: Call) -> Value:
    """Division by a power of the sum of ops.square over neighbouring channels."""
    value, size = call.value(), call.attribute("size")
    axis = value.axis(1)
    write = call.write.operation
    total = _sum_of_neighbours(call, write(ops.square, value.tensor, part="square"), axis, size)
    scaled = write(ops.multiply, total, call.attribute("alpha", 1e-4) / size, part="scaled")
    biased = write(ops.add, scaled, call.attribute("bias", 1.0), part="biased")
    divisor = write(ops.power, biased, call.attribute("beta", 0.75), part="divisor")
    return value.with_tensor(write(ops.divide, value.tensor, divisor))


def _sum_of_neighbours(call: Call, tensor: Any, axis: int, size: int) -> Any:
    """Sums over a window of channels; zeros stand beside the first and the last."""
    channels = tensor.shape[axis]
    # A wider window sees nothing but more zeros.
    before, after = (min(n, channels - 1) for n in ((size - 1) // 2, math.ceil((size - 1) / 2)))
    size = before + 1 + after
    if size > _MOST_NEIGHBOURS:
        raise call.refusal(
            f"its window of {size:,} channels would take as many layers; at most "
            f"{_MOST_NEIGHBOURS:,} are made"
        )
    pads = [(0, 0)] * len(tensor.shape)
    pads[axis] = (before, after)
    padded = call.write.operation(ops.pad, tensor, pads, part="pad")
    everything = (slice(None),) * axis
    shifted = [
        call.write.operation(
            getitem, padded, (*everything, slice(first, first + channels)), part=f"shift_{first}"
        )
        for first in range(size)
    ]
    return call.write.layer(layers.Add, shifted, "neighbours") if size > 1 else shifted[0]

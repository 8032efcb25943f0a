"""Looking up parts of a tensor by constant indices."""

import operator

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.conversion.layout import (
    Value,
    in_source_columns,
    needs_size,
    to_order,
    without_axes,
)
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import register_operator
from keras_amalgam.teachers.conversion.passes.folding import OPEN
from keras_amalgam.teachers.conversion.reshaping import reshaped


@register_operator("Gather", since=1)
def gather(call: Call) -> Value:
    """A slice for one index or a run of them, else ops.take."""
    value = in_source_columns(call.write, call.value())
    indices = call.constant(1)
    axis = call.attribute("axis", 0) % value.rank
    if value.sizes == (indices.size,) and _are_all_places(call):
        # Every number of a batch in its own place: how PyTorch writes a view with strides.
        return reshaped(call.write, value, indices.shape)
    if call.followed.depend(call.node.inputs[1:]):
        raise call.refusal("it looks up places that depend on the number of images")
    indices = _from_the_front(indices, static_size(call, value, axis))
    if indices.ndim == 0:
        return _one(call, value, axis, int(indices))
    first = int(indices.flat[0]) if indices.size else 0
    if indices.ndim == 1 and np.array_equal(indices, np.arange(first, first + indices.size)):
        return part_of(call, value, axis, slice(first, first + indices.size))
    return _looked_up(call, value, [axis], indices)


@register_operator("GatherND", since=11)
def gather_nd(call: Call) -> Value:
    """ops.take over the merged axes."""
    value, indices = in_source_columns(call.write, call.value()), call.constant(1)
    if call.attribute("batch_dims", 0):
        raise call.refusal("indices of each image (batch_dims) are not known")
    axes = list(range(indices.shape[-1]))
    sizes = [static_size(call, value, axis) for axis in axes]
    parts = [_from_the_front(indices[..., axis], size) for axis, size in enumerate(sizes)]
    return _looked_up(call, value, axes, np.ravel_multi_index(parts, sizes))


def static_size(call: Call, value: Value, axis: int) -> int:
    """The size of an axis that can be looked into.

    Raises:
        NotImplementedError: If it is the batch, or open.
    """
    size = value.sizes[axis]
    if axis == value.order[0]:
        raise call.refusal("it works along the batch")
    if size % OPEN == 0:
        raise needs_size("it works along the image's size")
    return size


def part_of(call: Call, value: Value, axis: int, bounds: slice, name: str = "") -> Value:
    """A run of a source axis, in a layer that can be tapped."""
    held = tuple(bounds if own == axis else slice(None) for own in value.order)
    tensor = call.write.operation(
        operator.getitem, value.tensor, held, part=f"{name or 'part_0'}_of"
    )
    return value.with_tensor(call.write.layer(layers.Identity, tensor, name))


def _one(call: Call, value: Value, axis: int, index: int) -> Value:
    """One place of an axis, which is gone then."""
    held = tuple(index if own == axis else slice(None) for own in value.order)
    tensor = call.write.operation(operator.getitem, value.tensor, held)
    return Value(tensor, without_axes(value.order, [axis]), batch=value.batch)


def _are_all_places(call: Call) -> bool:
    """Whether a flat tensor's places are asked for one after the other, in any batch."""
    readings = call.followed.readings(call.node.inputs[1], call.constant(1))
    return all(
        sizes == (indices.size,) and np.array_equal(indices.flat, range(indices.size))
        for sizes, indices in zip(call.sizes(0), readings, strict=True)
    )


def _from_the_front(indices: np.ndarray, size: int) -> np.ndarray:
    indices = np.where(indices < 0, indices + size, indices)
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise ValueError(f"its indices {indices.min()}..{indices.max()} are not below {size}")
    return indices


def _looked_up(call: Call, value: Value, axes: list[int], indices: np.ndarray) -> Value:
    """Source axes that follow each other, replaced by those of indices into all of them."""
    places = sorted(value.axis(axis) for axis in axes)
    if [value.order[place] for place in places] != axes or places[-1] - places[0] >= len(axes):
        rest = [axis for axis in value.order if axis not in axes]
        value = to_order(call.write, value, (rest[0], *axes, *rest[1:]))
        places = list(range(1, 1 + len(axes)))
    first = places[0]
    ahead, behind = value.tensor.shape[1:first], value.tensor.shape[first + len(axes) :]
    if None in (*ahead, *behind) and (len(axes) > 1 or indices.ndim > 1):
        raise needs_size("it reshapes to the image's size")
    tensor = value.tensor
    if len(axes) > 1:
        shape = (*ahead, -1, *behind)
        tensor = call.write.layer(layers.Reshape, tensor, "merge", target_shape=shape)
    flat = indices.reshape(-1).astype(np.int32)
    part = "take" if indices.ndim > 1 else ""
    tensor = call.write.operation(ops.take, tensor, flat, axis=first, part=part)
    if indices.ndim > 1:
        shape = (*ahead, *indices.shape, *behind)
        tensor = call.write.layer(layers.Reshape, tensor, target_shape=shape)
    grown = indices.ndim - len(axes)
    order = [axis + grown if axis > axes[-1] else axis for axis in value.order if axis not in axes]
    order[first:first] = [axes[0] + index for index in range(indices.ndim)]
    return Value(tensor, tuple(order), batch=value.batch)

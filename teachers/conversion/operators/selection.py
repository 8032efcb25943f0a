"""Operators that choose a part of a tensor, or repeat it."""

import math
import operator
from collections.abc import Sequence

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.conversion.layout import (
    Value,
    in_source_columns,
    natural,
    needs_size,
    readable,
)
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.lookup import part_of, static_size
from keras_amalgam.teachers.conversion.operators.registry import Result, register_operator
from keras_amalgam.teachers.conversion.passes.folding import BATCH, MAX_ELEMENTS, OPEN

# Operators that repeat a constant for every image by themselves.
_BROADCASTING = {
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min",
    "Mul", "Or", "Sub", "Where", "Xor",
}  # fmt: skip
_LARGE = 2**31 - 1  # Exporters write "to the end" as one of several large numbers.


@register_operator("Slice", since=1)
def slice_by_attributes(call: Call) -> Value:
    """A slice with fixed bounds."""
    starts, ends = call.attribute("starts"), call.attribute("ends")
    axes = call.attribute("axes", list(range(len(starts))))
    return _sliced(call, [starts], [ends], axes, [1] * len(starts))


@register_operator("Slice", since=10)
def slice_by_inputs(call: Call) -> Value:
    """A slice with fixed bounds."""
    starts, ends = call.readings(1), call.readings(2)
    axes = call.integers(3) or list(range(len(starts[0])))
    return _sliced(call, starts, ends, axes, call.integers(4) or [1] * len(axes))


@register_operator("Split", since=2)
def split_by_attribute(call: Call) -> tuple[Value, ...]:
    """Slices with fixed bounds."""
    return _split(call, call.attribute("split"))


@register_operator("Split", since=13)
def split_by_input(call: Call) -> tuple[Value, ...]:
    """Slices with fixed bounds."""
    return _split(call, call.integers(1))


@register_operator("Expand", since=8)
def expand(call: Call) -> Result:
    """Nothing, ops.tile, or for a constant the weight of a layer."""
    target = [int(n) for n in call.constant(1).reshape(-1)]
    if isinstance(call.inputs[0], np.ndarray):
        return _constant_for_every_image(call, np.asarray(call.inputs[0]), target)
    value = in_source_columns(call.write, call.value())
    if len(target) > value.rank:
        raise call.refusal(f"it adds axes, from {value.rank} to {len(target)}")
    target = [1] * (value.rank - len(target)) + target
    pairs = enumerate(zip(value.sizes, target, strict=True))
    repeats = [new if old == 1 else 1 for axis, (old, new) in pairs if axis != value.order[0]]
    repeats.insert(value.order[0], 1)
    return _tiled(call, value, repeats)


@register_operator("Tile", since=6)
def tile(call: Call) -> Result:
    """ops.tile."""
    repeats = [int(n) for n in call.constant(1).reshape(-1)]
    if isinstance(call.inputs[0], np.ndarray):
        array = np.asarray(call.inputs[0])
        sizes = [n * times for n, times in zip(array.shape, repeats, strict=True)]
        return _constant_for_every_image(call, array, sizes)
    value = in_source_columns(call.write, call.value())
    if repeats[value.order[0]] != 1:
        raise call.refusal("it repeats the batch")
    return _tiled(call, value, repeats)


def _tiled(call: Call, value: Value, repeats: Sequence[int]) -> Value:
    if any(times == 0 or times % OPEN == 0 or times % BATCH == 0 for times in repeats):
        raise call.refusal(f"its repeats {list(repeats)} depend on the image or are zero")
    if all(times == 1 for times in repeats):
        return value
    held = [repeats[axis] for axis in value.order]
    return value.with_tensor(call.write.operation(ops.tile, value.tensor, held))


def _constant_for_every_image(call: Call, array: np.ndarray, target: Sequence[int]) -> Result:
    """A constant repeated for every image, as a class token or a mask is."""
    if not target or target[0] != BATCH or any(n % BATCH == 0 for n in target[1:]):
        raise call.refusal(f"a constant that becomes {readable(target)} is not known")
    shape = np.broadcast_shapes(array.shape, (1, *target[1:]))
    if math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"it would make {readable(target)} numbers of a constant")
    readers = call.graph.consumers.get(call.node.outputs[0], ())
    array = np.broadcast_to(array, shape)
    if all(reader.operator in _BROADCASTING for reader in readers):
        return array
    weight = call.write.weight(array[0], like=call.write.image)
    return Value(call.write.layer(layers.Identity, weight), natural(len(target)))


def _sliced(
    call: Call,
    starts: Sequence[Sequence[int]],
    ends: Sequence[Sequence[int]],
    axes: Sequence[int],
    steps: Sequence[int],
) -> Value:
    """The part between bounds, which are given as in `Call.readings`."""
    value = in_source_columns(call.write, call.value())
    parts = [slice(None)] * value.rank
    by_axis = zip(zip(*starts, strict=True), zip(*ends, strict=True), axes, steps, strict=True)
    for first, last, axis, step in by_axis:
        axis %= value.rank
        if not _is_whole(call, first, last, axis, step):
            parts[axis] = _bounds(call, value, axis, set(first), set(last), step)
    if all(part == slice(None) for part in parts):
        return value
    held = tuple(parts[axis] for axis in value.order)
    tensor = call.write.operation(operator.getitem, value.tensor, held)
    return value.with_tensor(tensor)


def _is_whole(call: Call, starts: Sequence[int], ends: Sequence[int], axis: int, step: int) -> bool:
    """Whether bounds reach around a whole source axis, whatever the size of it."""
    value, images = call.value(), call.images_in_file()
    if step != 1 or any(starts):
        return False
    if axis == value.order[0] and images and min(ends) >= value.batch // BATCH * images:
        return True  # A file of a fixed batch may state it.
    sizes = [sizes[axis] for sizes in call.sizes()]
    ends = ends if len(ends) == len(sizes) else [*ends] * len(sizes)
    return all(end >= min(size, _LARGE) for end, size in zip(ends, sizes, strict=True))


def _bounds(
    call: Call, value: Value, axis: int, starts: set[int], ends: set[int], step: int
) -> slice:
    """A source axis' bounds without references to an end that is open."""
    size = value.sizes[axis]
    if axis == value.order[0]:
        raise call.refusal("it cuts the batch")
    (start, *more), (end, *others) = starts, ends
    if more or others:
        raise needs_size("its bounds depend on the image's size")
    if step > 0 and end < -size:
        raise call.refusal(f"it ends at {end}, before the first of {size}, and takes nothing")
    if value.tensor.shape[value.axis(axis)] is not None:
        first, stop, step = slice(start, None if end < -size else end, step).indices(size)
        return slice(first, None if stop < 0 else stop, step)
    if abs(start) >= OPEN // 2 or (OPEN // 2 <= abs(end) < _LARGE):
        raise needs_size("its bounds depend on the image's size")
    return slice(start, None if end >= _LARGE else end, step)


def _split(call: Call, sizes: Sequence[int] | None) -> tuple[Value, ...]:
    value = in_source_columns(call.write, call.value())
    axis = call.attribute("axis", 0) % value.rank
    size = static_size(call, value, axis)
    count = len(call.node.outputs)
    if not sizes:
        chunk = -(-size // count)
        sizes = [min(chunk, size - chunk * index) for index in range(count)]
    ends = np.cumsum(sizes)
    if ends[-1] != size or min(sizes) < 1 or len(sizes) != count:
        raise ValueError(f"parts of {list(sizes)} do not make up {size}")
    return tuple(
        part_of(call, value, axis, slice(int(end) - width, int(end)), f"part_{index}" * bool(index))
        for index, (end, width) in enumerate(zip(ends, sizes, strict=True))
    )

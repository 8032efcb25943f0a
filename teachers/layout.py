"""From channels first to channels last, in one place.

A `Value` is a Keras tensor together with the order of its axes: Keras axis `k` holds source axis
`order[k]`. A map from a channels-first source has the order `(0, 2, 3, 1)`. So a transposition in
the source changes the order and costs nothing; a layer that needs another order asks `to_order`,
the only place that writes one.

Flattening a map runs through its elements in another sequence than the source does. The difference
stays with the value as `columns` and is taken up by the rows of the next dense kernel.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.folding import BATCH, OPEN
from keras_amalgam.teachers.writer import Writer

Order = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A source tensor in the Keras graph.

    Args:
        tensor: The Keras tensor, batch first.
        order: Source axis that each Keras axis holds.
        columns: Only for `(batch, features)`: source column that each Keras column holds.
    """

    tensor: Any
    order: Order
    columns: np.ndarray | None = None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.order)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes in the source's order; the batch is `BATCH`, an open one `OPEN`."""
        by_axis = dict(zip(self.order, self.tensor.shape, strict=True))
        batch = self.order[0]
        return tuple(BATCH if axis == batch else by_axis[axis] or OPEN for axis in range(self.rank))

    def axis(self, source_axis: int) -> int:
        """The Keras axis that holds a source axis (negative ones count from the end)."""
        return self.order.index(source_axis % self.rank)

    def with_tensor(self, tensor: Any) -> "Value":
        """Another tensor in the same layout."""
        return replace(self, tensor=tensor)


def natural(rank: int) -> Order:
    """The source's own order."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """The order of a map from a channels-first source, as `(0, 2, 3, 1)`."""
    return (0, *range(2, rank), 1)


def transposed(value: Value, permutation: Sequence[int]) -> Value:
    """The source's transposition: new source axis `j` is the old `permutation[j]`. Free."""
    permutation = [axis % value.rank for axis in permutation]
    return replace(value, order=tuple(permutation.index(axis) for axis in value.order))


def to_order(write: Writer, value: Value, order: Order) -> Value:
    """The value with its axes in a wanted order, transposed only if more than size-1 axes move.

    Raises:
        NotImplementedError: If the batch would have to move.
    """
    if value.order == order:
        return value
    sizes = value.sizes
    moves = [value.order.index(axis) for axis in order]
    wide = [position for position in moves if sizes[value.order[position]] != 1]
    if wide == sorted(wide) and moves[0] == 0 and OPEN not in sizes:
        shape = tuple(sizes[axis] for axis in order[1:])
        tensor = write.layer(layers.Reshape, value.tensor, "reshape", target_shape=shape)
    elif moves[0] == 0:
        tensor = write.layer(layers.Permute, value.tensor, "permute", dims=tuple(moves[1:]))
    else:
        raise NotImplementedError(
            f"A tensor of sizes {_readable(sizes)} is needed with its batch not first."
        )
    return replace(value, tensor=tensor, order=order)


def in_source_columns(write: Writer, value: Value) -> Value:
    """The value with its columns in the source's sequence."""
    if value.columns is None:
        return value
    inverse = np.argsort(value.columns)
    tensor = write.operation(ops.take, value.tensor, inverse, axis=1, part="take")
    tensor = write.layer(layers.Identity, tensor, "columns")
    return replace(value, tensor=tensor, columns=None)


def as_source(write: Writer, value: Value) -> Value:
    """The value exactly as the source has it."""
    return to_order(write, in_source_columns(write, value), natural(value.rank))


def reshaped(write: Writer, value: Value, target: Sequence[int]) -> Value:
    """The source's reshape.

    Axes are merged and split where they stand; nothing is transposed as long as axes that are
    merged stand together and in sequence. Flattening to `(batch, features)` never transposes.

    Args:
        write: Of the node that reshapes.
        value: What is reshaped.
        target: New source sizes; one may be -1, the batch may be `BATCH`, -1 or a fixed number.

    Raises:
        ValueError: If an open height or width takes part.
        NotImplementedError: If the batch is merged with another axis.
    """
    target = _complete(value.sizes, target)
    if target == value.sizes:
        return value
    value = in_source_columns(write, value)
    groups = _groups(value.sizes, target)
    if len(target) == 2 and len(groups) <= 1:
        return _flattened(write, value, target)
    value, blocks = _gathered(write, value, groups)
    wide = [axis for block in blocks for axis in groups[block][1]]
    ones = [axis for axis in range(1, len(target)) if target[axis] == 1]
    order = (0, *ones, *wide)
    shape = tuple(target[axis] for axis in order[1:])
    if tuple(value.tensor.shape[1:]) == shape:
        return Value(value.tensor, order)
    return Value(write.layer(layers.Reshape, value.tensor, target_shape=shape), order)


def aligned_constant(array: np.ndarray, value: Value) -> Any:
    """A constant as it broadcasts against the value's Keras tensor.

    Args:
        array: In the source's layout; at most the value's rank.
        value: What it meets.

    Returns:
        A float for one element, else a float32 array.

    Raises:
        NotImplementedError: If the constant has a batch of its own.
    """
    if array.size == 1:
        return float(array.reshape(()))
    full = array.reshape((1,) * (value.rank - array.ndim) + array.shape)
    if array.ndim > value.rank or full.shape[0] != 1:
        raise NotImplementedError(
            f"A constant of shape {array.shape} cannot meet a tensor of sizes "
            f"{_readable(value.sizes)}: it has a batch of its own."
        )
    full = full.transpose(value.order).astype(np.float32)
    if value.columns is not None and full.shape[1] > 1:
        full = full[:, value.columns]
    return full


def _complete(sizes: tuple[int, ...], target: Sequence[int]) -> tuple[int, ...]:
    features = math.prod(sizes[1:])
    if any(size % OPEN == 0 for size in (features, *target) if size):
        raise ValueError(
            f"A reshape from sizes {sizes} to {list(target)} needs the image's height and width, "
            "which the file leaves open. Pass `input_shape=(height, width, channels)`."
        )
    rest = list(target[1:])
    if -1 in rest:
        rest[rest.index(-1)] = features // max(math.prod(n for n in rest if n != -1), 1)
    if sizes[0] != BATCH or not target or math.prod(rest) != features:
        raise NotImplementedError(
            f"A reshape from sizes {_readable(sizes)} to {_readable(target)} merges the batch with "
            "another axis."
        )
    return (BATCH, *rest)


def _readable(sizes: Iterable[int]) -> str:
    names = {BATCH: "batch", OPEN: "open"}
    return "(" + ", ".join(names.get(size, str(size)) for size in sizes) + ")"


def _groups(source: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest sets of neighbouring axes that a reshape turns into each other, in order."""
    left = [axis for axis in range(1, len(source)) if source[axis] != 1]
    right = [axis for axis in range(1, len(target)) if target[axis] != 1]
    groups = []
    while left and right:
        old, new = [left.pop(0)], [right.pop(0)]
        while (a := math.prod(source[i] for i in old)) != (b := math.prod(target[i] for i in new)):
            (old if a < b else new).append((left if a < b else right).pop(0))
        groups.append((old, new))
    return groups


def _flattened(write: Writer, value: Value, target: tuple[int, ...]) -> Value:
    """Flatten in Keras' sequence and remember the difference."""
    held = value.order[1:]
    sizes = value.sizes
    numbers = np.arange(math.prod(sizes[1:])).reshape(sizes[1:])
    columns = numbers.transpose([axis - 1 for axis in held]).reshape(-1)
    in_sequence = np.array_equal(columns, numbers.reshape(-1))
    return Value(
        write.layer(layers.Flatten, value.tensor), (0, 1), None if in_sequence else columns
    )


def _gathered(
    write: Writer, value: Value, groups: list[tuple[list[int], list[int]]]
) -> tuple[Value, list[int]]:
    """The value with each group's axes side by side in sequence, and the order of the groups."""
    sizes = value.sizes
    group_of = {axis: index for index, (old, _) in enumerate(groups) for axis in old}
    held = [axis for axis in value.order if axis in group_of]
    blocks = list(dict.fromkeys(group_of[axis] for axis in held))
    if (
        sorted(held, key=lambda axis: blocks.index(group_of[axis])) != held
    ):  # A group is torn apart: only the source's own order serves.
        blocks = list(range(len(groups)))
    wanted = [axis for block in blocks for axis in groups[block][0]]
    if wanted != held:
        ones = [axis for axis in range(1, value.rank) if sizes[axis] == 1]
        value = to_order(write, value, (0, *ones, *wanted))
    return value, blocks

"""From channels first to channels last, in one place.

A `Value` is a Keras tensor together with the order of its axes: Keras axis `k` holds source axis
`order[k]`. A map from a channels-first source has the order `(0, 2, 3, 1)`. So a transposition in
the source changes the order and costs nothing; a layer that needs another order asks `to_order`,
the only place that writes one.

The batch is the first Keras axis, always, whichever source axis it is; its source size is a
multiple of `BATCH`, as windows of an image or heads of an attention are laid out in the batch.

Flattening a map runs through its elements in another sequence than the source does. The difference
stays with the value as `columns` and is taken up by the rows of the next dense kernel.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.conversion.passes.folding import BATCH, OPEN
from keras_amalgam.teachers.conversion.writer import Writer

Order = tuple[int, ...]
_MOST_TRANSPOSED = 6


@dataclass(frozen=True)
class Value:
    """A source tensor in the Keras graph.

    Args:
        tensor: The Keras tensor, batch first.
        order: Source axis that each Keras axis holds.
        columns: Only for `(batch, features)`: source column that each Keras column holds.
        batch: Size of the first Keras axis, a multiple of `BATCH`.
    """

    tensor: Any
    order: Order
    columns: np.ndarray | None = None
    batch: int = BATCH

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.order)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes in the source's order; the batch is `batch`, an open one `OPEN`."""
        by_axis = dict(zip(self.order, (self.batch, *self.tensor.shape[1:]), strict=True))
        return tuple(by_axis[axis] or OPEN for axis in range(self.rank))

    def axis(self, source_axis: int) -> int:
        """The Keras axis that holds a source axis (negative ones count from the end)."""
        return self.order.index(source_axis % self.rank)

    def with_tensor(self, tensor: Any) -> "Value":
        """Another tensor in the same layout."""
        return replace(self, tensor=tensor)


@dataclass(frozen=True)
class Rows:
    """A source tensor whose first axis counts the images inside of something else.

    Attention with the tokens first flattens `(tokens, batch, features)` to
    `(tokens·batch, features)`, multiplies each row by a matrix, and goes back. A Keras tensor, the
    batch first, cannot hold such rows. So the two axes stay apart until a reshape splits them
    again, and only operators that treat each row by itself may read them.

    Args:
        value: With the source's first axis as two, `(tokens, batch, ...)`.
    """

    value: Value

    @property
    def rank(self) -> int:
        """Number of axes in the source."""
        return self.value.rank - 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes in the source."""
        outer, batch, *rest = self.value.sizes
        return (outer * batch, *rest)


def natural(rank: int) -> Order:
    """The source's own order."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """The order of a map from a channels-first source, as `(0, 2, 3, 1)`."""
    return (0, *range(2, rank), 1)


def without_axes(order: Order, gone: Iterable[int]) -> Order:
    """The order once source axes are gone and those behind them have moved up."""
    gone = set(gone)
    kept = [axis for axis in order if axis not in gone]
    return tuple(axis - sum(one < axis for one in gone) for axis in kept)


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
        tensor = _permuted(write, value.tensor, moves)
    else:
        raise NotImplementedError(
            f"a tensor of sizes {readable(sizes)} is needed as it is, and Keras has the batch "
            "first. Export the network with the batch in front."
        )
    return replace(value, tensor=tensor, order=order)


def _permuted(write: Writer, tensor: Any, moves: list[int]) -> Any:
    """The tensor with its axes moved; of more than TFLite transposes, neighbours move as one."""
    sizes = tensor.shape
    blocks: list[list[int]] = [[]]
    for axis in moves[1:]:
        if blocks[-1] and axis == blocks[-1][-1] + 1:
            blocks[-1].append(axis)
        else:
            blocks.append([axis])
    blocks = blocks[1:]
    if len(moves) <= _MOST_TRANSPOSED or len(blocks) == len(moves) - 1 or None in sizes[1:]:
        return write.layer(layers.Permute, tensor, "permute", dims=tuple(moves[1:]))
    in_place = sorted(blocks)
    merged = tuple(math.prod(sizes[axis] for axis in block) for block in in_place)
    dims = tuple(in_place.index(block) + 1 for block in blocks)
    tensor = write.layer(layers.Reshape, tensor, "merge", target_shape=merged)
    tensor = write.layer(layers.Permute, tensor, "permute", dims=dims)
    shape = tuple(sizes[axis] for axis in moves[1:])
    return write.layer(layers.Reshape, tensor, "split", target_shape=shape)


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


def aligned_constant(array: np.ndarray, value: Value) -> Any:
    """A constant as it broadcasts against the value's Keras tensor.

    Args:
        array: In the source's layout; at most the value's rank.
        value: What it meets.

    Returns:
        A float for one element, else an array, float32 or of truth values.

    Raises:
        NotImplementedError: If the constant has a batch of its own, or more axes.
    """
    if array.size == 1 and array.ndim <= value.rank:
        return float(array.reshape(()))
    if array.ndim > value.rank:
        raise NotImplementedError(
            f"A constant of shape {array.shape} adds axes of its own to a tensor of sizes "
            f"{readable(value.sizes)}. Export the network with at most {value.rank} axes there."
        )
    full = array.reshape((1,) * (value.rank - array.ndim) + array.shape)
    if full.shape[value.order[0]] != 1:
        raise NotImplementedError(
            f"A constant of shape {array.shape} cannot meet a tensor of sizes "
            f"{readable(value.sizes)}: it has a batch of its own."
        )
    full = full.transpose(value.order)
    full = full if full.dtype == np.bool_ else full.astype(np.float32)
    if value.columns is not None and full.shape[1] > 1:
        full = full[:, value.columns]
    return full


def needs_size(what: str) -> NotImplementedError:
    """The error for what cannot be done while the file leaves a size open.

    Args:
        what: Ends in what is needed, as "its padding depends on the image's size".
    """
    return NotImplementedError(
        f"{what}, which the file leaves open. Pass `input_shape=(height, width, channels)`."
    )


def readable(sizes: Iterable[int]) -> str:
    """Sizes as error messages show them, as `(batch, 3, open, open)`."""
    return "(" + ", ".join(map(_readable_size, sizes)) + ")"


def _readable_size(size: int) -> str:
    if size and size % BATCH == 0:
        return "batch" if size == BATCH else f"{size // BATCH}·batch"
    return "open" if size == OPEN else str(size)

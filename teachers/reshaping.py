"""The source's reshape, on axes in another order than the source's.

Axes are merged and split where they stand; nothing is transposed as long as axes that are merged
stand together and in sequence. Flattening to `(batch, features)` never transposes.
"""

import math
from collections.abc import Sequence

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.layout import Value, in_source_columns, needs_size, readable, to_order
from keras_amalgam.teachers.passes.folding import BATCH, OPEN
from keras_amalgam.teachers.writer import Writer

Group = tuple[list[int], list[int]]


def reshaped(write: Writer, value: Value, target: Sequence[int], images: int = 1) -> Value:
    """The source's reshape.

    Args:
        write: Of the node that reshapes.
        value: What is reshaped.
        target: New source sizes; one may be -1, and the batch may be a multiple of `BATCH` or the
            number that the file was written for.
        images: How many images the file was written for, where it fixes that.

    Raises:
        ValueError: If the sizes do not fit.
        NotImplementedError: If an open height or width takes part, or the batch is merged with an
            axis before it.
    """
    sizes, batch = _completed(value, target, images)
    if sizes == value.sizes:
        return value
    value = in_source_columns(write, value)
    groups = _groups(value.sizes, sizes)
    old, new = next(group for group in groups if value.order[0] in group[0])
    if old[0] != value.order[0] or new[0] != batch:
        raise _merging(value.sizes, sizes)
    keeps_batch = len(old) == len(new) == 1
    if len(sizes) == 2 and batch == 0 and keeps_batch and value.order[0] == 0:
        return _flattened(write, value)
    value, blocks = _gathered(write, value, groups)
    ones = [axis for axis in range(len(sizes)) if sizes[axis] == 1]
    wide = [axis for block in blocks for axis in groups[block][1]]
    order = (wide[0], *ones, *wide[1:])
    shape = tuple(sizes[axis] for axis in order[1:])
    if not keeps_batch:
        # A layer leaves the batch alone; an operation does not.
        tensor = write.operation(ops.reshape, value.tensor, (-1, *shape))
    elif tuple(value.tensor.shape[1:]) == shape:
        tensor = value.tensor
    else:
        tensor = write.layer(layers.Reshape, value.tensor, target_shape=shape)
    return Value(tensor, order, batch=sizes[batch])


def _completed(value: Value, target: Sequence[int], images: int) -> tuple[tuple[int, ...], int]:
    """The new sizes with the batch in its place, and that place."""
    sizes, held = value.sizes, value.order[0]
    if any(size and size % OPEN == 0 for size in (*sizes, *target)):
        raise needs_size(
            f"a reshape from sizes {readable(sizes)} to {readable(target)} needs the image's size"
        )
    before = [size // BATCH * images if axis == held else size for axis, size in enumerate(sizes)]
    marked = [axis for axis, size in enumerate(target) if size and size % BATCH == 0]
    after = [n // BATCH * images if axis in marked else n for axis, n in enumerate(target)]
    if -1 in after:
        after[after.index(-1)] = math.prod(before) // max(math.prod(n for n in after if n != -1), 1)
    if math.prod(before) != math.prod(after) or min(after, default=1) < 1:
        raise ValueError(f"sizes {readable(sizes)} cannot become {readable(target)}")
    # Elements from one image to the next must stay as many.
    step = before[held] // images * math.prod(before[held + 1 :])
    for axis in marked or range(len(after)):
        if (
            after[axis] % images == 0
            and after[axis] // images * math.prod(after[axis + 1 :]) == step
        ):
            after[axis] = after[axis] // images * BATCH
            return tuple(after), axis
    raise _merging(sizes, target)


def _merging(sizes: Sequence[int], target: Sequence[int]) -> NotImplementedError:
    return NotImplementedError(
        f"A reshape from sizes {readable(sizes)} to {readable(target)} merges the batch with an "
        "axis before it."
    )


def _groups(source: Sequence[int], target: Sequence[int]) -> list[Group]:
    """The smallest sets of neighbouring axes that a reshape turns into each other, in order."""
    left = [axis for axis in range(len(source)) if source[axis] != 1]
    right = [axis for axis in range(len(target)) if target[axis] != 1]
    groups = []
    while left and right:
        old, new = [left.pop(0)], [right.pop(0)]
        while (a := math.prod(source[i] for i in old)) != (b := math.prod(target[i] for i in new)):
            (old if a < b else new).append((left if a < b else right).pop(0))
        groups.append((old, new))
    return groups


def _flattened(write: Writer, value: Value) -> Value:
    """Flatten in Keras' sequence and remember the difference."""
    held = value.order[1:]
    sizes = value.sizes
    numbers = np.arange(math.prod(sizes[1:])).reshape(sizes[1:])
    columns = numbers.transpose([axis - 1 for axis in held]).reshape(-1)
    in_sequence = np.array_equal(columns, numbers.reshape(-1))
    tensor = write.layer(layers.Flatten, value.tensor)
    return Value(tensor, (0, 1), None if in_sequence else columns, value.batch)


def _gathered(write: Writer, value: Value, groups: list[Group]) -> tuple[Value, list[int]]:
    """The value with each group's axes side by side in sequence, and the order of the groups."""
    group_of = {axis: index for index, (old, _) in enumerate(groups) for axis in old}
    held = [axis for axis in value.order if axis in group_of]
    blocks = list(dict.fromkeys(group_of[axis] for axis in held))
    if sorted(held, key=lambda axis: blocks.index(group_of[axis])) != held:
        # A group is torn apart: behind the batch only the source's own order serves.
        blocks = [blocks[0], *sorted(blocks[1:])]
    wanted = [axis for block in blocks for axis in groups[block][0]]
    if wanted != held:
        ones = [axis for axis in range(value.rank) if axis not in group_of]
        value = to_order(write, value, (wanted[0], *ones, *wanted[1:]))
    return value, blocks

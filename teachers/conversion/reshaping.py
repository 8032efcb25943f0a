"""The source's reshape, on axes in another order than the source's.

Axes are merged and split where they stand; nothing is transposed as long as axes that are merged
stand together and in sequence. Flattening to `(batch, features)` never transposes.
"""

import math
from collections.abc import Sequence

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.conversion.layout import (
    Rows,
    Value,
    in_source_columns,
    needs_size,
    readable,
    to_order,
)
from keras_amalgam.teachers.conversion.passes.folding import BATCH, OPEN
from keras_amalgam.teachers.conversion.writer import Writer

Group = tuple[list[int], list[int]]


def reshaped_or_rows(
    write: Writer, given: Value | Rows, target: Sequence[int], images: int | None
) -> Value | Rows:
    """The source's reshape, where it may merge the batch with all axes before it, or split such.

    Args:
        write: As in `reshaped`.
        given: What is reshaped.
        target: As in `reshaped`.
        images: As in `reshaped`.

    Raises:
        ValueError: If the sizes do not fit.
        NotImplementedError: As in `reshaped`.
    """
    value = given.value if isinstance(given, Rows) else given
    apart = _rows_apart(value, target, images)
    if apart is None:
        return reshaped(write, value, target, images)
    return Rows(reshaped(write, value, apart))


def settled(write: Writer, rows: Rows, images: int | None) -> Value:
    """Rows as a tensor, if a number of images that the file fixes allows another reading of them.

    Args:
        write: Of the node that reads them.
        rows: Any.
        images: As in `reshaped`.

    Raises:
        NotImplementedError: If it does not.
    """
    first, *rest = rows.sizes
    first = first // BATCH * images if images else first
    return reshaped(write, rows.value, [first, *rest], images)


def reshaped(
    write: Writer, value: Value, target: Sequence[int], images: int | None = None
) -> Value:
    """The source's reshape.

    Args:
        write: Of the node that reshapes.
        value: What is reshaped.
        target: New source sizes; one may be -1, and the batch may be a multiple of `BATCH` or the
            number that the file was written for.
        images: How many images the file was written for; `None` where it leaves that open.

    Raises:
        ValueError: If the sizes do not fit.
        NotImplementedError: If an open height or width takes part, or the batch is merged with an
            axis before it.
    """
    sizes, batch = _completed(value, target, images)
    return _to_sizes(write, value, sizes, batch)


def _to_sizes(
    write: Writer, value: Value, sizes: tuple[int, ...], batch: int, part: str = ""
) -> Value:
    """The reshape to sizes without gaps, of which one is the batch."""
    if sizes == value.sizes:
        return value
    value = in_source_columns(write, value)
    groups = _groups(value.sizes, sizes)
    old, new = next(group for group in groups if value.order[0] in group[0])
    if old[0] != value.order[0] or new[0] != batch:
        raise _merging(value.sizes, sizes)
    keeps_batch = len(old) == len(new) == 1
    finer = None if keeps_batch else _finer(value, sizes, groups)
    if finer is not None:
        # Split where it costs nothing, so that what moves then moves to its place.
        value = _to_sizes(write, value, *finer, part="split")
        return _to_sizes(write, value, sizes, batch, part)
    if len(sizes) == 2 and batch == 0 and keeps_batch and value.order[0] == 0:
        return _flattened(write, value)
    value, blocks = _gathered(write, value, groups)
    ones = [axis for axis in range(len(sizes)) if sizes[axis] == 1]
    wide = [axis for block in blocks for axis in groups[block][1]]
    order = (wide[0], *ones, *wide[1:])
    shape = tuple(sizes[axis] for axis in order[1:])
    if not keeps_batch:
        # A layer leaves the batch alone; an operation does not.
        tensor = write.operation(ops.reshape, value.tensor, (-1, *shape), part=part)
    elif tuple(value.tensor.shape[1:]) == shape:
        tensor = value.tensor
    else:
        tensor = write.layer(layers.Reshape, value.tensor, part, target_shape=shape)
    return Value(tensor, order, batch=sizes[batch])


def _completed(
    value: Value, target: Sequence[int], images: int | None
) -> tuple[tuple[int, ...], int]:
    """The new sizes with the batch in its place, and that place."""
    sizes, held = value.sizes, value.order[0]
    is_open, images = images is None, images or 1
    if any(size and size % OPEN == 0 for size in (*sizes, *target)):
        raise needs_size(
            f"a reshape from sizes {readable(sizes)} to {readable(target)} needs the image's size"
        )
    before = [size // BATCH * images if axis == held else size for axis, size in enumerate(sizes)]
    marked = [axis for axis, size in enumerate(target) if size and size % BATCH == 0]
    after = [n // BATCH * images if axis in marked else n for axis, n in enumerate(target)]
    if is_open and not marked and -1 in target and math.prod(sizes[:held]) > 1:
        marked = [target.index(-1)]  # All else has its number of elements from the file.
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


def _rows_apart(value: Value, target: Sequence[int], images: int | None) -> tuple[int, ...] | None:
    """The new sizes of a reshape that makes rows, the first axis as two; else nothing."""
    sizes, held = value.sizes, value.order[0]
    outer = math.prod(sizes[:held])
    first, *rest = target
    if outer == 1 or any(size and size % OPEN == 0 for size in (*sizes, *target)):
        return None
    if any(size == 0 or size % BATCH == 0 for size in rest) or 0 in (first, outer):
        return None
    if first % BATCH and images == 1 and len(target) != 2:
        return None  # Heads of an attention, behind the axes before the batch.
    if first != -1 and first % BATCH:
        if images is None and (len(target) != 2 or -1 in rest):
            return None
        first = first // (images or 1) * BATCH if first % (images or 1) == 0 else 0
    total = math.prod(sizes)
    known = math.prod(size for size in (first, *rest) if size != -1)
    if -1 in target and known:
        apart = [total // known if size == -1 else size for size in (first, *rest)]
    else:
        apart = [first, *rest]
    first, *rest = apart
    if math.prod(apart) != total or first % (outer * BATCH):
        return None
    return (outer, first // outer, *rest)


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


def _finer(
    value: Value, sizes: tuple[int, ...], groups: list[Group]
) -> tuple[tuple[int, ...], int] | None:
    """Sizes that both the old and the new ones merge, and the batch's place; nothing if needless.

    Heads that an attention takes into the batch, or out of it, stand beside the tokens.
    """
    if _in_blocks(value, groups)[0] == [axis for axis in value.order if value.sizes[axis] != 1]:
        return None
    finer, batch = [], 0
    for old, new in groups:
        ends = {math.prod(value.sizes[i] for i in old[at:]) for at in range(len(old))}
        ends |= {math.prod(sizes[i] for i in new[at:]) for at in range(len(new))}
        steps = [1, *sorted(ends)]
        if any(large % small for small, large in zip(steps, steps[1:], strict=False)):
            return None
        if value.order[0] in old:
            batch = len(finer)
        finer += [large // small for small, large in zip(steps, steps[1:], strict=False)][::-1]
    made = tuple(finer)
    both = [tuple(size for size in given if size != 1) for given in (value.sizes, sizes)]
    return None if made in both else (made, batch)


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
    wanted, blocks = _in_blocks(value, groups)
    if wanted != [axis for axis in value.order if value.sizes[axis] != 1]:
        ones = [axis for axis in range(value.rank) if value.sizes[axis] == 1]
        value = to_order(write, value, (wanted[0], *ones, *wanted[1:]))
    return value, blocks


def _in_blocks(value: Value, groups: list[Group]) -> tuple[list[int], list[int]]:
    """The axes with each group's side by side in sequence, and the order of the groups."""
    group_of = {axis: index for index, (old, _) in enumerate(groups) for axis in old}
    held = [axis for axis in value.order if axis in group_of]
    blocks = list(dict.fromkeys(group_of[axis] for axis in held))
    if sorted(held, key=lambda axis: blocks.index(group_of[axis])) != held:
        # A group is torn apart: behind the batch only the source's own order serves.
        blocks = [blocks[0], *sorted(blocks[1:])]
    return [axis for block in blocks for axis in groups[block][0]], blocks

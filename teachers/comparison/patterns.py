"""Images that a network is compared on where none are given."""

from collections.abc import Sequence

import keras
import numpy as np

OPEN_SIZES = (64, 96)  # Of height and width; unlike, so that they are not taken for each other.
ODD_SIZES = (65, 97)  # Which halves, and what is doubled again, do not fit.


def patterns(
    model: keras.Model, number: int, seed: int, open_sizes: tuple[int, int] = OPEN_SIZES
) -> np.ndarray:
    """Images to compare on: coarse blocks with fine noise, so that every filter has something.

    Args:
        model: Whose input they fit.
        number: How many.
        seed: Of the generator.
        open_sizes: What an open height and width become, in pixels.

    Returns:
        Shape `(number, …)` of the input's type; -2..2, or 0..255 for integers.
    """
    generator = np.random.default_rng(seed)
    shape = (number, *closed(model.input_shape[1:], open_sizes))
    images = generator.uniform(-1, 1, shape)
    if len(shape) == 4:
        coarse = generator.uniform(-1, 1, (number, 4, 4, shape[3]))
        rows, columns = (np.arange(size) * 4 // size for size in shape[1:3])
        images += coarse[:, rows][:, :, columns]
    dtype = model.inputs[0].dtype
    if "int" in dtype:
        images = np.round((images + 2) / 4 * 255)
    return images.astype(dtype)


def closed(sizes: Sequence[int | None], open_sizes: tuple[int, int] = OPEN_SIZES) -> list[int]:
    """An image's shape with its open sizes filled in: height, width, and 1 for any other."""
    return [
        size or (open_sizes[axis] if axis < len(open_sizes) else 1)
        for axis, size in enumerate(sizes)
    ]

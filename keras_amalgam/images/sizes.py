"""How large the images of a folder are, read from their files' first bytes without decoding."""

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from keras_amalgam.images.folders import walk
from keras_amalgam.images.pillow_files import opened, orientation_of

# Orientations that exchange height and width.
_TURNED = (5, 6, 7, 8)


def image_sizes(path: str | os.PathLike[str], recursive: bool = True) -> np.ndarray:
    """Heights and widths of a folder's images, the right way up.

    Args:
        path: The folder, as `from_folder` takes it.
        recursive: Whether sub-folders are searched too.

    Returns:
        Shape `(images, 2)`, int64: height and width in pixels, in sorted order of the files.

    Raises:
        ValueError: If the folder is missing or holds no images, or the size of one cannot be read.

    Example:
        >>> height, width = image_sizes("photos").max(axis=0)
    """
    found = walk(path, recursive)
    found.refuse_empty()
    return np.array([_size_of(file) for file in found.files], np.int64)


def _size_of(file: Path) -> tuple[int, int]:
    # No pixel is decoded here, so nothing can be too large for it.
    with file.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = opened(stream)
        except ValueError as error:
            raise ValueError(
                f"Image file '{file}' is corrupt: its size cannot be read. {error} Repair or "
                "remove it."
            ) from error
        width, height = image.size
        return (width, height) if orientation_of(image) in _TURNED else (height, width)

"""How large the images of a folder are, read from their files' first bytes without decoding."""

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from keras_amalgam.images.files import list_images

# Of EXIF: those that exchange height and width.
_TURNED = (5, 6, 7, 8)


def image_sizes(path: str | os.PathLike[str], recursive: bool = True) -> np.ndarray:
    """Heights and widths of a folder's images, the right way up.

    Args:
        path: The folder, as `from_folder` takes it.
        recursive: Whether sub-folders are searched too.

    Returns:
        Shape `(images, 2)`, int64: height and width in pixels, in sorted order of the files.

    Raises:
        ValueError: If the folder is missing or holds no images, or a file is not an image.

    Example:
        >>> height, width = image_sizes("photos").max(axis=0)
    """
    return np.array([_size_of(file) for file in list_images(path, recursive)], np.int64)


def _size_of(file: Path) -> tuple[int, int]:
    try:
        with warnings.catch_warnings():
            # No pixel is decoded here, so nothing can be too large for it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                width, height = image.size
                orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"Image file '{file}' is corrupt: its size cannot be read. Received: {error}. Repair "
            "or remove it."
        ) from error
    return (width, height) if orientation in _TURNED else (height, width)

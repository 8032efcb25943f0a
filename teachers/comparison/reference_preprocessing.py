"""A `Preprocessing` computed once more, in NumPy and Pillow, to compare the one in the graph with.

Nothing here is shared with the graph's, on purpose: JPEG and PNG files are decoded by Pillow, not
by TensorFlow, and images are resized by matrices of weights in float64. Files of other kinds alone
are decoded by the same function, as the graph too has Pillow decode them.
"""

from collections.abc import Callable

import numpy as np

from keras_amalgam.images.pillow_files import pixels_of
from keras_amalgam.images.preprocessing import Preprocessing

# Of red, green and blue in a grey image, as in TensorFlow, MATLAB and ITU-R BT.601.
_LUMA = np.array([0.2989, 0.587, 0.114])
# TensorFlow looks its cubic up at so many places between two pixels, unless it antialiases.
_CUBIC_STEPS = 1024


def reference_input(content: bytes, preprocessing: Preprocessing, channels: int) -> np.ndarray:
    """What an encoded image becomes before it enters a network.

    Args:
        content: Of a JPEG or PNG file.
        preprocessing: As declared for the network.
        channels: That the network takes, 1 or 3.

    Returns:
        Shape `(height, width, channels)`, float32.

    Raises:
        ValueError: If it is no image.
    """
    pixels = decoded_by_pillow(content).astype(np.float64)
    order = preprocessing.channels or ("grey" if channels == 1 else "rgb")
    if order == "grey" and pixels.shape[-1] == 3:
        pixels = pixels @ _LUMA[:, None]
    elif order != "grey":
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    if order == "bgr":
        pixels = pixels[..., [2, 1, 0]]
    if preprocessing.size is not None:
        pixels = _resized_and_cropped(pixels, preprocessing.size, preprocessing)
    normalised = pixels * preprocessing.scale - np.asarray(preprocessing.mean)
    return (normalised / np.asarray(preprocessing.std)).astype(np.float32)


def decoded_by_pillow(content: bytes) -> np.ndarray:
    """The pixels of an encoded image, the right way up, uint8, `(height, width, 1 or 3)`.

    Raises:
        ValueError: If it is no image.
    """
    try:
        return pixels_of(content)
    except ValueError as error:
        raise ValueError(
            "Images to compare on must be JPEG or PNG, or of another kind that Pillow reads. "
            f"Received: {len(content):,} bytes beginning with {content[:8]!r} ({error}). Leave it "
            "out or copy it again."
        ) from error


def _resized_and_cropped(
    pixels: np.ndarray, size: tuple[int, int], preprocessing: Preprocessing
) -> np.ndarray:
    before_crop = [round(side / preprocessing.crop_fraction) for side in size]
    if preprocessing.crop_to_aspect_ratio:
        pixels = _cut_to_shape(pixels, *before_crop)
    for axis, side in enumerate(before_crop):
        weights = resizing_weights(
            pixels.shape[axis], side, preprocessing.interpolation, preprocessing.antialias
        )
        pixels = np.moveaxis(np.tensordot(weights, pixels, (1, axis)), 0, axis)
    top, left = ((full - side) // 2 for full, side in zip(before_crop, size, strict=True))
    return pixels[top : top + size[0], left : left + size[1]]


def _cut_to_shape(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest part about the centre with the shape of `height` to `width`, in whole pixels."""
    rows, columns = pixels.shape[:2]
    kept = min(rows, columns * height // width), min(columns, rows * width // height)
    top, left = (rows - max(kept[0], 1)) // 2, (columns - max(kept[1], 1)) // 2
    return pixels[top : top + max(kept[0], 1), left : left + max(kept[1], 1)]


def resizing_weights(old: int, new: int, interpolation: str, antialias: bool) -> np.ndarray:
    """How much of each old pixel is in each new one, along one axis, with half-pixel centres.

    Args:
        old: Number of pixels before.
        new: Number of pixels after.
        interpolation: As in `Preprocessing`.
        antialias: Whether a shrinking kernel is widened until it covers all pixels, as in Pillow.

    Returns:
        Shape `(new, old)`; every row sums to one.
    """
    if interpolation == "nearest":
        # In float32, as at exact ties the rounding decides which of two neighbours it is.
        places = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * np.float32(old / new)
        return np.eye(old)[np.minimum(np.floor(places).astype(int), old - 1)]
    width = max(old / new, 1.0) if antialias else 1.0
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    if interpolation == "bicubic" and not antialias:
        centres = np.round(centres * _CUBIC_STEPS) / _CUBIC_STEPS
    distances = (np.arange(old) - centres[:, None]) / width
    weights = _KERNELS[interpolation](np.abs(distances))
    return weights / weights.sum(axis=1, keepdims=True)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, 1.0 - x)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -0.5."""
    near, far = (1.5 * x - 2.5) * x * x + 1.0, ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(radius: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.where(x < radius, np.sinc(x) * np.sinc(x / radius), 0.0)


_KERNELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "bilinear": _triangle,
    "bicubic": _cubic,
    "lanczos3": _lanczos(3),
    "lanczos5": _lanczos(5),
}

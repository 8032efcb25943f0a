"""Which pixels a resized axis is made of: ONNX' coordinates and filters as onnxruntime has them."""

from dataclasses import dataclass

import numpy as np

_MODES = ("nearest", "linear", "cubic")
_COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
    "tf_half_pixel_for_nn",
)  # fmt: skip
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")
_NEARLY = 1e-5  # Half a pixel is half a pixel in spite of float32's rounding.
_RADIUS = {"linear": 1.0, "cubic": 2.0}


@dataclass(frozen=True)
class Rule:
    """How new pixels are made.

    Args:
        mode: `"nearest"`, `"linear"` or `"cubic"`.
        coordinates: Where a new pixel lies among the old ones, by ONNX' name.
        rounding: Which is the nearest one, by ONNX' name; `"simple"` is opset 10's.
        cubic: The cubic filter's coefficient.
        leaves_outside: Whether weights beyond the border are left out, rather than given to it.
        antialias: Whether the filter becomes wider where the axis becomes smaller.
    """

    mode: str
    coordinates: str
    rounding: str
    cubic: float = -0.75
    leaves_outside: bool = False
    antialias: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the functions below understand it."""
        by_mode = self.mode in _MODES and self.coordinates in _COORDINATES
        return by_mode and self.rounding in _ROUNDINGS


def nearest(rule: Rule, size: int, output: int, scale: float) -> np.ndarray:
    """The old pixel that each new one is.

    Args:
        rule: How pixels are made.
        size: Old number of pixels.
        output: New number of pixels.
        scale: The factor that places them; not always `output / size`.

    Returns:
        Integers in `[0, size)`, shape `(output,)`.
    """
    at = _positions(rule, size, output, scale).astype(np.float64)
    if rule.rounding == "round_prefer_floor":
        at = np.ceil(at - 0.5 - _NEARLY)
    elif rule.rounding == "round_prefer_ceil":
        at = np.floor(at + 0.5 + _NEARLY)
    elif rule.rounding == "ceil" or (rule.rounding == "simple" and scale < 1):
        at = np.ceil(at)
    return np.clip(np.floor(at).astype(int), 0, size - 1)


def is_repetition(rule: Rule, factor: int, size: int | None) -> bool:
    """Whether every pixel is repeated `factor` times, for all sizes if it is `None`."""
    if rule.mode != "nearest" or (size is None and rule.coordinates == "align_corners"):
        return False
    size = size or 8  # The pattern of a whole factor does not change with the size.
    pixels = nearest(rule, size, size * factor, factor)
    return np.array_equal(pixels, np.repeat(np.arange(size), factor))


def weights(rule: Rule, size: int, output: int, scale: float) -> np.ndarray:
    """How much of each old pixel is in each new one.

    Args:
        rule: How pixels are made.
        size: Old number of pixels.
        output: New number of pixels.
        scale: The factor that places them.

    Returns:
        Float32, shape `(output, size)`; rows sum to 1.
    """
    at = _positions(rule, size, output, scale).astype(np.float64)[:, None]
    shrink = min(scale, 1.0) if rule.antialias else 1.0
    reach = int(np.ceil(_RADIUS[rule.mode] / shrink))
    pixels = np.floor(at) + np.arange(1 - reach, reach + 1)
    amounts = _filter(rule, (pixels - at) * shrink)
    if rule.leaves_outside:
        amounts = amounts * ((pixels >= 0) & (pixels < size))
    amounts = amounts / amounts.sum(axis=1, keepdims=True)
    matrix = np.zeros((output, size))
    held = np.clip(pixels, 0, size - 1).astype(int)
    np.add.at(matrix, (np.arange(output)[:, None], held), amounts)
    return matrix.astype(np.float32)


def _positions(rule: Rule, size: int, output: int, scale: float) -> np.ndarray:
    """Where each new pixel lies, counted in old ones; in float32, as onnxruntime rounds it."""
    pixels, factor = np.arange(output, dtype=np.float32), np.float32(scale)
    half = np.float32(0.5)
    if rule.coordinates == "asymmetric":
        return pixels / factor
    if rule.coordinates == "align_corners":
        return pixels * np.float32(size - 1) / np.float32(max(output - 1, 1))
    if rule.coordinates == "tf_half_pixel_for_nn":
        return (pixels + half) / factor
    if rule.coordinates == "pytorch_half_pixel" and output == 1:
        return pixels
    if rule.coordinates == "half_pixel_symmetric":  # The one whose halves are in float64 there.
        share = np.float32(output) / (factor * np.float32(size))
        start = np.float32(size) / 2 * (1 - share)
        return (start + (pixels + 0.5).astype(np.float64) / float(factor) - 0.5).astype(np.float32)
    return (pixels + half) / factor - half


def _filter(rule: Rule, distance: np.ndarray) -> np.ndarray:
    """The filter's height at a distance in pixels."""
    x = np.abs(distance)
    if rule.mode == "linear":
        return np.maximum(1 - x, 0)
    a = rule.cubic
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))

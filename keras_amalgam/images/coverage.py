"""Whether images fill the numbers that a quantized network's input can hold."""

import warnings

import numpy as np

from keras_amalgam.images.built_in import ADVICE, RANGES, Range, limits
from keras_amalgam.images.preprocessing import Preprocessing

# Of 256 levels, 25 are left. Ranges that are mistaken for each other differ by a hundredfold, while
# dark or pale images of a quantization's calibration narrow its range by less than ten.
_LEAST_SHARED = 0.1


def range_of(covers: tuple[float, float]) -> Range | None:
    """The usual range that an input covers; `None` if it is none of them.

    Args:
        covers: The lowest and the highest number that it holds.
    """
    for name, (low, high) in RANGES.items():
        if np.allclose(covers, (low, high), rtol=0, atol=0.05 * (high - low)):
            return name
    return None


def check_covered(covers: tuple[float, float], preprocessing: Preprocessing, owner: str) -> None:
    """Refuse a preprocessing of which a quantized input holds next to nothing.

    Warns where more than half of it is cut off, which a calibration on too few images may explain.

    Args:
        covers: The lowest and the highest number that the input holds.
        preprocessing: What goes before it.
        owner: Whom to name in the error, such as `"Teacher 'birds'"`.

    Raises:
        ValueError: If what the images become and what the input holds have less than a tenth of
            either in common.
    """
    low, high = limits(preprocessing)
    bottom, top = covers
    shared = max(0.0, min(high, top) - max(low, bottom))
    received = (
        f"Received: preprocessing that brings images to {low:.4g} to {high:.4g}, and an input "
        f"whose quantization covers {bottom:.4g} to {top:.4g}"
    )
    usual = range_of(covers)
    advice = ADVICE[usual] if usual else "Pass the normalisation that it was quantized with."
    if shared < _LEAST_SHARED * max(top - bottom, high - low):
        raise ValueError(
            f"{owner} would see next to nothing of its images. {received}: they have less than a "
            f"tenth in common. {advice}"
        )
    if shared < (high - low) / 2:
        warnings.warn(
            f"{owner} cuts off more than half of its images' range. {received}. {advice}",
            stacklevel=2,
        )

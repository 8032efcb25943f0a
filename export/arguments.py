"""Whether an argument is the number it should be. Truth values, text and NaN are none."""

import math
import numbers
from typing import Any


def is_whole(value: Any, lowest: int) -> bool:
    """Whether a value is a whole number, NumPy's included, from `lowest` on."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_integer and int(value) >= lowest


def is_limit(value: Any, lowest: float = 0.0, highest: float = math.inf) -> bool:
    """Whether a value is a number, NumPy's included, in a range whose ends are allowed."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and lowest <= float(value) <= highest

"""Arguments that are numbers: truth values, text and NaN are none."""

import numbers
from typing import Any


def is_whole(value: Any, lowest: int) -> bool:
    """Whether a value is a whole number, NumPy's included, from `lowest` on."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_integer and int(value) >= lowest


def check_limit(name: str, value: Any, lowest: float, highest: float, otherwise: str) -> None:
    """Refuses what is no number, NumPy's included, in a range whose ends are allowed.

    Args:
        name: The argument's name, for the message.
        value: What was given; `None` for no limit of the caller's.
        lowest: The smallest limit that makes sense.
        highest: The largest.
        otherwise: What `None` stands for, for the message.

    Raises:
        ValueError: If it is neither.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if value is not None and not (is_number and lowest <= float(value) <= highest):
        raise ValueError(
            f"`{name}` is no such limit. Received: {value!r}. Expected: a number from {lowest:g} "
            f"to {highest:g}, or None for {otherwise}. Correct it."
        )

"""What a tolerance may be, everywhere the same."""

import math
from typing import Any


def check_tolerance(tolerance: Any) -> None:
    """Refuse a tolerance that no error, or every error, would be past.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is negative, infinite or not a number.
    """
    if isinstance(tolerance, bool) or not hasattr(tolerance, "__float__"):
        raise TypeError(
            f"`tolerance` must be a number. Received: {tolerance!r} of type "
            f"{type(tolerance).__name__}. Expected a fraction of a tensor's range, as 1e-4."
        )
    if not 0 <= float(tolerance) < math.inf:
        raise ValueError(
            f"`tolerance` must be finite and not negative. Received: {tolerance!r}. Expected a "
            "fraction of a tensor's range, as 1e-4; to leave the comparison out, convert with "
            "`verify=False`."
        )

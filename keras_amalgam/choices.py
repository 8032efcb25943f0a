"""What may be chosen of a run: one list for the command's flags and for Python's arguments."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Number(NamedTuple):
    """What a number may be.

    Args:
        kind: `int` or `float`; the latter must be finite.
        lowest: The smallest that is allowed.
        highest: The largest; `None` for no such end.
        is_optional: Whether it may be left open, as `None`.
    """

    kind: type[int] | type[float]
    lowest: int | float
    highest: int | None = None
    is_optional: bool = False

    @property
    def ends(self) -> tuple[Any, Any]:
        """The smallest and the largest, as absl's numbers take them."""
        return self.lowest, self.highest


NUMBERS: Mapping[str, Number] = {
    "epochs": Number(int, 1, is_optional=True),
    "batch_size": Number(int, 2),
    "learning_rate": Number(float, 0.0, is_optional=True),
    "temperature": Number(float, 0.01, is_optional=True),
    "common_features": Number(float, 0.0, is_optional=True),
    "seed": Number(int, 0, 2**32 - 1),  # NumPy's generator takes 32 bits.
    "steps": Number(int, 1, is_optional=True),
    "workers": Number(int, 1, is_optional=True),
}
"""By the argument's name, which is the flag's."""

OWNERSHIPS = ("joint", "per_task", "source")
CHOOSE = "choose"
TRAINING_METHODS = ("amalgamation", "matching", "standardized", "reused_heads", "paper", CHOOSE)
_OF_SOFT_TARGETS = ("amalgamation", "matching", "standardized", CHOOSE)
USED_BY: Mapping[str, tuple[tuple[str, ...], str]] = {
    "ownership": (_OF_SOFT_TARGETS, "decides itself which teacher to believe"),
    "temperature": (_OF_SOFT_TARGETS, "has no soft targets whose temperature could be set"),
    "common_features": (
        ("amalgamation", CHOOSE),
        "has no common space whose weight could be set",
    ),
}
"""By the argument's name: the methods that it changes, and what is said of the others."""
DTYPE_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
CHANNELS = (1, 3)  # Grey, RGB.
LEAST_SIDE = 8  # Of the student's images, in pixels.

"""What a recipe aimed at, and whether it was met."""

from dataclasses import dataclass
from typing import Literal

from keras_amalgam.evaluation.quantities import Number, Text

Unit = Literal["fraction", "points", "seconds", "milliseconds", "bytes", "ratio", "number"]
"""Units of a goal; `points` is a difference of two fractions, also written as a fraction."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One goal; `goal` makes one.

    Attributes:
        name: What was aimed at.
        target: The least value that meets the goal, or the largest if `at_least` is false.
        value: What was measured.
        met: Whether the value meets the target; null if it was not measured.
        unit: Of target and value; `points` is a difference of two fractions.
        at_least: Whether larger is better.
    """

    name: Text
    target: Number
    value: Number | None
    met: bool | None
    unit: Unit
    at_least: bool

    @property
    def gap(self) -> float | None:
        """Distance of the value from the target, not negative."""
        return None if self.value is None else abs(self.value - self.target)


def goal(
    name: str, value: float | None, target: float, unit: Unit = "number", at_least: bool = True
) -> Goal:
    """One goal of a report; whether it is met follows from the numbers.

    Args:
        name: What was aimed at.
        value: What was measured, or `None` if it was not.
        target: The least value that meets the goal, or the largest if `at_least` is false.
        unit: One of `Unit`.
        at_least: Whether larger is better.

    Example:
    ```python
    goal("digits: student within 2 points of its teacher", 0.979 - 0.993, -0.02, "points")
    ```
    """
    met = None if value is None else _meets(value, target, at_least)
    return Goal(name=name, target=target, value=value, met=met, unit=unit, at_least=at_least)


def _meets(value: float, target: float, at_least: bool) -> bool:
    """With room for the rounding of a difference of two fractions."""
    return bool(value >= target - 1e-9 if at_least else value <= target + 1e-9)

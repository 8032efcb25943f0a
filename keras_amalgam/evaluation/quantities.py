"""What a measured number may be: types that bear their range and unit.

To Python they are `float`, `int` and `str`; `keras_amalgam.report` reads the rest to check a report
and to describe it.
"""

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Quantity:
    """The range of a number, or the least length of a text, list or mapping.

    Attributes:
        expected: What a value must be, as an error message says it.
        minimum: The least value or length; `None` for no bound.
        maximum: The largest value; `None` for no bound.
    """

    expected: str
    minimum: float | None = None
    maximum: float | None = None


Number = Annotated[float, Quantity("a finite number")]
NonNegative = Annotated[float, Quantity("a number, not negative", 0)]
Fraction = Annotated[float, Quantity("a fraction in 0..1 (not percent)", 0, 1)]
Seconds = Annotated[float, Quantity("seconds, not negative", 0)]
Milliseconds = Annotated[float, Quantity("milliseconds, not negative", 0)]
Count = Annotated[int, Quantity("a whole number, not negative", 0)]
Bytes = Annotated[int, Quantity("a whole number of bytes, not negative", 0)]
Images = Annotated[int, Quantity("at least one image", 1)]
Text = Annotated[str, Quantity("a text", 1)]
Curve = Annotated[tuple[Number | None, ...], Quantity("at least one epoch", 1)]

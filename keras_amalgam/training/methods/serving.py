"""Which teachers a method can serve."""

from collections.abc import Sequence

from keras_amalgam.models.student import check_names
from keras_amalgam.models.teacher import Teacher


def check_tapped(method: str, teachers: Sequence[Teacher]) -> None:
    """Refuse teachers whose features a method cannot read.

    Args:
        method: Its name.
        teachers: Those of the training.

    Raises:
        TypeError: If they are not teachers.
        ValueError: Naming those without a tap.
    """
    check_names(teachers)
    tapless = [teacher.name for teacher in teachers if not teacher.taps]
    if tapless:
        raise ValueError(
            f"The method {method!r} imitates features. Received: teachers without a tap, "
            f"{tapless}. Give Teacher(…, tap=…), or choose a method that reads answers alone."
        )

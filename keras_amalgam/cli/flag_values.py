"""What the values of flags must be, whichever command they are of."""

import math

from absl import flags


def check(values: flags.FlagValues, positional: list[str]) -> None:
    """Refuse values that no command takes, before anything is read.

    Args:
        values: The command's flags.
        positional: Its arguments.

    Raises:
        ValueError: Naming the flags that are empty, or the number that is not finite.
    """
    _check_empty(values, positional)
    _check_finite(values)


def _check_empty(values: flags.FlagValues, positional: list[str]) -> None:
    """Refuse what an unset variable of the shell leaves: as a path it would mean this folder."""
    given = {f"--{name}": values[name].value for name in values if values[name].present}
    given |= {f"argument {number}": value for number, value in enumerate(positional, 1)}
    lists = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
    empty = [name for name, texts in lists.items() if not texts or "" in texts]
    if empty:
        raise ValueError(
            f"{' and '.join(empty)} must not be empty. Received: ''. Give a value, or leave it "
            "out; a variable of the shell that is not set leaves nothing behind."
        )


def _check_finite(values: flags.FlagValues) -> None:
    """Refuse NaN, which is outside of no bounds, and infinities."""
    for name in values:
        value = values[name].value
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(
                f"--{name} must be finite. Received: {value}. Give a number, or leave --{name} "
                "out for its default."
            )

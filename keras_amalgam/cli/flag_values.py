"""What the values of flags must be, whichever command they are of."""

import math
from typing import Any

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


def from_json(flag: flags.Flag[Any], value: Any) -> Any:
    """A flag's value out of JSON, checked as on the command line.

    Args:
        flag: As it is before anything is given.
        value: What JSON holds, of the type that the flag has.

    Raises:
        ValueError: If the flag does not take it; says what it takes.
    """
    parser: Any = flag.parser
    several = isinstance(flag, flags.MultiFlag) or isinstance(flag.parser, flags.ListParser)
    if value is None and flag.default is None:
        return None
    if value is None or isinstance(value, list) != several:
        raise ValueError(f"Expected: {_expected(flag, several)}.")
    try:
        if isinstance(flag, flags.MultiFlag):
            return [parser.parse(one) for one in value]
        if several and not all(isinstance(one, str) for one in value):
            raise TypeError("a list of other things than texts")
        return parser.parse(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"Expected: {_expected(flag, several)}.") from error


def _expected(flag: flags.Flag[Any], several: bool) -> str:
    """What a flag takes, in words; `null` where it may be left out."""
    if several:
        what = "a list of texts"
    elif flag.boolean:
        what = "true or false"
    elif isinstance(flag.parser, flags.EnumParser):
        what = f"one of {list(flag.parser.enum_values)}"
    else:
        what = flag.parser.syntactic_help or "a text"
    return f"{what}, or null" if flag.default is None else what

"""Numbers as people read them, the same on the page and in the terminal."""

from keras_amalgam.text import digits as _digits
from keras_amalgam.text import file_size as file_size

MINUS = "\N{MINUS SIGN}"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(fraction: float, error: float | None = None) -> str:
    """`0.9785` as `97.85`, with a standard error as `97.85 ± 0.32`; the unit stands beside it."""
    text = f"{100 * fraction:.2f}"
    return text if error is None else f"{text} ± {100 * error:.2f}"


def points(difference: float) -> str:
    """A difference of fractions in percentage points, always signed: `−1.20`, `+0.35`, `0.00`."""
    return signed(f"{100 * difference:+.2f}")


def signed(text: str) -> str:
    """A number's text with a true minus sign and no sign before zero."""
    if not text.strip("+-0."):
        return text.lstrip("+-")
    return text.replace("-", MINUS)


def count(number: int) -> str:
    """`55384` as `55,384`."""
    return f"{number:,}"


def milliseconds(number: float) -> str:
    """`0.4231` as `0.423 ms`."""
    return f"{_digits(number, 3)} ms"


def duration(seconds: float) -> str:
    """`142.3` as `2 min 22 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def ratio(number: float) -> str:
    """`4.912` as `4.91 ×`."""
    return f"{_digits(number, 3)} ×"


def scalar(number: float) -> str:
    """A loss, norm or error with three significant digits: `0.0312`, `3.10 × 10⁻⁶`."""
    if number == 0:
        return "0"
    if 1e-3 <= abs(number) < 1e5:
        return signed(_digits(number, 3))
    mantissa, exponent = f"{number:.2e}".split("e")
    return f"{signed(mantissa)} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def words(names: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))

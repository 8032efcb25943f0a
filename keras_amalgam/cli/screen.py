"""How the commands about single networks print."""

import textwrap
from collections.abc import Sequence

from keras_amalgam.text import lines

WIDTH = 100


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = (), indent: int = 2) -> str:
    """Rows as aligned lines of at most `WIDTH` characters.

    Args:
        rows: Cells, equally many in each row. Where they don't fit, the cells of the widest columns
            are shortened, as they hold names.
        right: Columns that are aligned at their right.
        indent: Spaces in front.
    """
    return lines(_fitted(rows, WIDTH - indent), right, indent)


def _fitted(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """The rows with their widest columns shortened until they fit, two spaces between columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while (excess := sum(widths) + 2 * (len(widths) - 1) - width) > 0:
        *_, second, widest = sorted([0, *widths])
        shorter = max(widest - excess, min(second, widest - 1))
        widths[widths.index(widest)] = shorter
    return [[shortened(cell, most) for cell, most in zip(row, widths, strict=True)] for row in rows]


def wrapped(rows: Sequence[tuple[str, str]]) -> str:
    """Labels and texts as two columns, of which the texts go on in further lines."""
    room = WIDTH - 4 - max(len(label) for label, _ in rows)
    cells = []
    for label, text in rows:
        first, *others = textwrap.wrap(text, room) or [""]
        cells += [(label, first), *(("", line) for line in others)]
    return columns(cells)


def shape(sizes: Sequence[int | None]) -> str:
    """Sizes with a question mark where open, as `(?, 7, 7, 80)`."""
    return f"({', '.join('?' if size is None else str(size) for size in sizes)})"


def shortened(name: str, width: int = 60) -> str:
    """A long name by its end."""
    return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"

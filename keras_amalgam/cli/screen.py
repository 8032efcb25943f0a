"""How the commands about single networks print."""

import textwrap
from collections.abc import Sequence

WIDTH = 100


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = (), indent: int = 2) -> str:
    """Rows as aligned lines of at most `WIDTH` characters.

    Args:
        rows: Cells, equally many in each row. Where they don't fit, the cells of the widest columns
            are shortened, as they hold names.
        right: Columns that are aligned at their right.
        indent: Spaces in front.
    """
    rows = _fitted(rows, WIDTH - indent)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((" " * indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


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
    lines = []
    for label, text in rows:
        first, *others = textwrap.wrap(text, room) or [""]
        lines += [(label, first), *(("", line) for line in others)]
    return columns(lines)


def shape(sizes: Sequence[int | None]) -> str:
    """Sizes with a question mark where open, as `(?, 7, 7, 80)`."""
    return f"({', '.join('?' if size is None else str(size) for size in sizes)})"


def size(number: int) -> str:
    """A number of bytes, readable."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number} bytes"


def shortened(name: str, width: int = 60) -> str:
    """A long name by its end."""
    return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"

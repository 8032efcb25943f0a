"""How the commands about single networks print."""

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = (), indent: int = 2) -> str:
    """Rows as aligned lines.

    Args:
        rows: Cells, equally many in each row.
        right: Columns that are aligned at their right.
        indent: Spaces in front.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((" " * indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


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
    return name if len(name) <= width else f"…{name[1 - width :]}"

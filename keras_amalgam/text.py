"""Tables and numbers for people, the same in the terminal, in documents and on pages."""

import difflib
import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import jinja2

Rows = Sequence[Sequence[str]]


def lines(rows: Rows, right: Collection[int] = (), indent: int = 0, rule: bool = False) -> str:
    """Rows as aligned lines, two spaces between columns.

    Args:
        rows: Cells, equally many in each row.
        right: Columns that are aligned at their right.
        indent: Spaces in front.
        rule: Whether the first row is a header with a line below.

    Returns:
        Lines without a trailing newline.
    """
    if rule:
        rows = [rows[0], ["-" * width for width in _widths(rows)], *rows[1:]]
    aligned = _aligned(rows, right)
    return "\n".join(f"{' ' * indent}{'  '.join(cells)}".rstrip() for cells in aligned)


def markdown(
    headers: Sequence[str], rows: Rows, right: Collection[int] = (), padded: bool = False
) -> str:
    """A table of GitHub's Markdown.

    Args:
        headers: One a column.
        rows: Cells, as many as headers; a `|` in them is escaped.
        right: Columns that are aligned at their right.
        padded: Whether the source is aligned too, for tables that are read as they are.

    Returns:
        Lines without a trailing newline.
    """
    cells = [[cell.replace("|", r"\|") for cell in row] for row in (headers, *rows)]
    is_right = [column in right for column in range(len(headers))]
    if padded:
        widths = zip(_widths(cells), is_right, strict=True)
        rule = ["-" * (width + 1) + (":" if at_right else "-") for width, at_right in widths]
        cells = _aligned(cells, right)
    else:
        rule = [" ---: " if at_right else " --- " for at_right in is_right]
    head, *others = (f"| {' | '.join(row)} |" for row in cells)
    return "\n".join([head, f"|{'|'.join(rule)}|", *others])


def page_template(path: Path) -> jinja2.Template:
    """A template of a page, in which every value is escaped and none may be missing.

    Args:
        path: Of the template; those that it includes lie beside it.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(path.name)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What was probably meant, to go on with after a message; empty where nothing is close.

    Args:
        word: What was given.
        known: What there is.
    """
    close = difflib.get_close_matches(word, known, n=3)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def file_size(number: float) -> str:
    """Bytes in decimal units with three digits: `58.3 kB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{digits(number / size, 3)} {unit}"
    return f"{number:.0f} bytes"


def digits(number: float, least: int) -> str:
    """At least so many significant digits, without an exponent: `0.423`, `58.3`, `55,384`."""
    magnitude = math.floor(math.log10(abs(number))) if number else 0
    return f"{number:,.{max(least - 1 - magnitude, 0)}f}"


def _widths(rows: Rows) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _aligned(rows: Rows, right: Collection[int]) -> list[list[str]]:
    widths = _widths(rows)
    return [
        [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]

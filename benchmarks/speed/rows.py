"""Rows of timed steps, in one file."""

import json
import statistics
from pathlib import Path
from typing import Any

from keras_amalgam.files.writing import write_text

PATH = Path("docs/speed.json")

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """All rows of a file, none if it does not exist yet."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []


def has(path: Path, case: str, terms: str) -> bool:
    """Whether there is a row."""
    return any((one["case"], one["terms"]) == (case, terms) for one in read(path))


def add(path: Path, row: Row) -> None:
    """Add a row, in place of one of the same case and terms."""
    others = [
        one for one in read(path) if (one["case"], one["terms"]) != (row["case"], row["terms"])
    ]
    lines = ",\n".join(json.dumps(one) for one in [*others, row])
    write_text(path, f'{{"rows": [\n{lines}\n]}}\n')


def median(row: Row, name: str) -> float:
    """The median of a kind of step, in milliseconds."""
    return statistics.median(row["milliseconds"][name])


def ratio(row: Row, above: tuple[str, ...], below: tuple[str, ...]) -> float:
    """The median over the repeats of one sum of steps over another.

    Args:
        row: A row.
        above: Names of the steps whose times are added up.
        below: Names of those they are divided by.
    """
    times = row["milliseconds"]
    sums = [
        [sum(at_once) for at_once in zip(*(times[name] for name in names), strict=True)]
        for names in (above, below)
    ]
    return statistics.median(a / b for a, b in zip(*sums, strict=True))


def said(row: Row) -> str:
    """A row on one line."""
    times = ", ".join(f"{name} {median(row, name):.1f}" for name in row["milliseconds"])
    return f"{row['case']}, {row['terms']} (ms): {times}; losses differ by {row['difference']:.0e}"

"""Rows of timed steps, in one file, and what they tell."""

import statistics
from pathlib import Path

from benchmarks.rows import Row as Row
from benchmarks.rows import read as read

PATH = Path("docs/speed.json")
# Two rows that agree in these are of one measurement.
KEYS = ("case", "terms")


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

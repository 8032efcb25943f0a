"""Rows of trained students, in one file for all benchmarks."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks import rows
from benchmarks.rows import Row as Row
from benchmarks.rows import read as read

PATH = Path("docs/results.json")
# Two rows that agree in these are of one training.
KEYS = ("benchmark", "teachers", "row", "seed", "epochs", "images")


def has(path: Path, row: Row) -> bool:
    """Whether there is a row of the same training."""
    return rows.has(path, row, KEYS)


def add(path: Path, row: Row) -> None:
    """Add a row, in place of one of the same training."""
    rows.add(path, row, KEYS)


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Four digits, as a thousand images tell no more."""
    return {name: round(float(value), 4) for name, value in values.items()}

"""Rows of results, in one file for all benchmarks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_amalgam.files.writing import write_text

PATH = Path("docs/results.json")
# Two rows that agree in these are of one training.
KEYS = ("benchmark", "teachers", "row", "seed", "epochs", "images")

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """All rows of a file, none if it does not exist yet."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []


def has(path: Path, row: Row) -> bool:
    """Whether there is a row of the same training."""
    return any(_is_same(one, row) for one in read(path))


def add(path: Path, row: Row) -> None:
    """Add a row, in place of one of the same training."""
    rows = [one for one in read(path) if not _is_same(one, row)]
    lines = ",\n".join(json.dumps(one) for one in [*rows, row])
    write_text(path, f'{{"rows": [\n{lines}\n]}}\n')


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Four digits, as a thousand images tell no more."""
    return {name: round(float(value), 4) for name, value in values.items()}


def _is_same(one: Row, other: Row) -> bool:
    return all(one[key] == other[key] for key in KEYS)

"""Rows of results in a JSON file, each added as soon as it is known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_amalgam.files.writing import write_text

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """All rows of a file, none if it does not exist yet."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []


def has(path: Path, row: Row, keys: Sequence[str]) -> bool:
    """Whether there is a row that agrees in these keys."""
    return any(_agree(one, row, keys) for one in read(path))


def add(path: Path, row: Row, keys: Sequence[str]) -> None:
    """Add a row, in place of one that agrees in these keys."""
    others = [one for one in read(path) if not _agree(one, row, keys)]
    lines = ",\n".join(json.dumps(one) for one in [*others, row])
    write_text(path, f'{{"rows": [\n{lines}\n]}}\n')


def _agree(one: Row, other: Row, keys: Sequence[str]) -> bool:
    return all(one[key] == other[key] for key in keys)

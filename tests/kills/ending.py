"""What a run ended with, without what differs between any two runs.

That is the number of the process, times and memory, and names that some exporters choose anew.
"""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

DIFFERING_FILES = (".run.lock", "*.html", "*.keras", "*.onnx", "saved_model/*", "variables/*")
DIFFERING_KEYS = (
    "created", "seconds", "latency", "images_per_second", "bytes",
    "html", "json", "keras", "onnx", "saved_model",
)  # fmt: skip


def ended_with(out: Path) -> dict[str, Any]:
    """By name of each file that the run left, except TensorBoard's, what it tells."""
    names = (path.relative_to(out) for path in sorted(out.rglob("*")) if path.is_file())
    return {str(name): _told(out / name) for name in names if name.parts[0] != "logs"}


def _told(path: Path) -> Any:
    """What a file tells, by which it is compared with that of another run."""
    if any(path.match(pattern) for pattern in DIFFERING_FILES):
        return None
    if path.suffix == ".npz":
        return _hash_of_arrays(path)
    if path.suffix == ".csv":
        with open(path, encoding="utf-8", newline="") as file:
            return _comparable(list(csv.DictReader(file)))
    if path.suffix == ".json":
        return _comparable(json.loads(path.read_text(encoding="utf-8")))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _hash_of_arrays(path: Path) -> str:
    """A hash of all numbers of a state (student, terms, optimizer, seeds) or an evaluation."""
    found = hashlib.sha256()
    with np.load(path) as arrays:
        for name in sorted(set(arrays.files) - {"about"}):
            found.update(arrays[name].tobytes())
    return found.hexdigest()


def _comparable(content: Any) -> Any:
    if isinstance(content, dict):
        kept = (key for key in sorted(content) if not any(word in key for word in DIFFERING_KEYS))
        return {key: _comparable(content[key]) for key in kept}
    return [_comparable(one) for one in content] if isinstance(content, list) else content

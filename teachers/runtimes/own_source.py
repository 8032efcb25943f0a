"""A teacher in a runtime of its own as the source that it is compared with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_amalgam.files.contents import sha256_of, sha256_of_directory
from keras_amalgam.models.runtime import Runtime
from keras_amalgam.models.runtime_teacher import RuntimeTeacher
from keras_amalgam.teachers.onnx_files.file import read_onnx


class AsSource:
    """The runtime of a `RuntimeTeacher` as a source.

    Args:
        runtime: Any.
    """

    def __init__(self, runtime: Runtime) -> None:
        """See the class."""
        self._runtime = runtime
        self.outputs = (runtime.output,)
        self.version = runtime.origin.engine

    def run(self, images: np.ndarray, tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """See `SourceRuntime`."""
        results = self._runtime.run(np.asarray(images, np.float32))
        return {name: results[name] for name in tensors}


def refuse_other_source(teacher: RuntimeTeacher, source: Any) -> None:
    """Refuse a source that a teacher in a runtime of its own would pass over in silence.

    Args:
        teacher: Its own source.
        source: What it is to be compared with, if anything was said.

    Raises:
        ValueError: If it is another network.
    """
    origin = teacher.runtime.origin
    if source is None or source is teacher.runtime:
        return
    if isinstance(source, (str, Path)) and Path(source).exists():
        path = Path(source).absolute()
        if path.samefile(origin.path) or _hash(path) == (origin.sha256 or teacher.fingerprint()):
            return
    received = repr(str(source)) if isinstance(source, (str, Path)) else type(source).__name__
    raise ValueError(
        f"Teacher {teacher.name!r} runs {origin.path.name!r} itself, and is compared with that "
        f"alone. Received: {received} as the source. Leave `source` out, or convert that network "
        "to compare the two."
    )


def _hash(path: Path) -> str:
    if path.is_dir():
        return sha256_of_directory(path)
    return read_onnx(path).sha256 if path.suffix.lower() == ".onnx" else sha256_of(path)

"""Weights that an ONNX file keeps in other files, which must lie in its own folder."""

import os
import stat
from pathlib import Path

import onnx

from keras_amalgam.teachers.onnx_files.bounds import MAX_BYTES


def load_external_data(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Put the weights of other files into the model.

    Args:
        model: The parsed model; its initializers hold their data afterwards.
        path: Where it was read from.

    Returns:
        The files read, sorted, each at the place that the model names, be it a link or not.

    Raises:
        ValueError: If a file is missing, is no regular file of the model's folder or is too short,
            or if all data together is larger than `MAX_BYTES`.
    """
    parts = [(t, *_place(t, path)) for t in model.graph.initializer if is_external(t)]
    files = sorted({_as_named(t, path) for t, *_ in parts})
    total = sum(length for *_, length in parts)
    total = max(total, sum(file.stat().st_size for file in files))
    if total > MAX_BYTES:
        raise ValueError(
            f"{path.name!r} keeps {total:,} bytes of weights in other files. At most {MAX_BYTES:,} "
            "are read, the 2 GB that an ONNX model in memory can hold. Export a smaller network."
        )
    for tensor, file, offset, length in parts:
        with file.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(length)
        tensor.raw_data = data
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
    return files


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's data is, or may be, in another file."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL or bool(tensor.external_data)


def _place(tensor: onnx.TensorProto, path: Path) -> tuple[Path, int, int]:
    """The file that holds a tensor's data, where it begins there, and its length."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    file = _inside(location, path, tensor.name)
    size = file.stat().st_size
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", max(size - offset, 0)))
    except ValueError as error:
        raise _misplaced(tensor, location, path, f"{error}.") from error
    if offset < 0 or length < 0 or offset + length > size:
        raise _misplaced(
            tensor, location, path, f"{length:,} bytes from {offset:,} on, of {size:,}."
        )
    return file, offset, length


def _as_named(tensor: onnx.TensorProto, path: Path) -> Path:
    """Where the model looks for a tensor's data: a copy must lie there, too."""
    location = next(entry.value for entry in tensor.external_data if entry.key == "location")
    return path.parent / os.path.normpath(location)


def _inside(location: str, path: Path, name: str) -> Path:
    """The file at a location, links followed, if it lies in the model's folder."""
    folder = path.parent.resolve()
    try:
        target = (folder / location).resolve()
    except (OSError, ValueError, RuntimeError):  # Too long, with a NUL byte, a circle of links.
        target = Path()
    if not location or not target.is_relative_to(folder):
        raise ValueError(
            f"{path.name!r} keeps the tensor {name!r} outside its own folder. Received: "
            f"location {location[:200]!r}. External data must lie in the model's folder."
        )
    try:
        is_file = stat.S_ISREG(target.stat().st_mode)
    except OSError:
        is_file = False
    if not is_file:
        raise ValueError(
            f"{path.name!r} keeps its weights in {location!r}, which is missing or no file. Put "
            "that file beside the model, or export with external_data=False."
        )
    return target


def _misplaced(tensor: onnx.TensorProto, location: str, path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path.name!r} keeps the tensor {tensor.name!r} in {location!r}, which does not hold it. "
        f"Received: {reason} Copy both files again."
    )

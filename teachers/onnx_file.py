"""Reading an ONNX file as what it is: untrusted input."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import load_external_data_for_tensor
from onnx.inliner import inline_local_functions

MAX_NODES = 50_000


@dataclass(frozen=True)
class OnnxFile:
    """A checked ONNX file.

    Args:
        path: Where it was read from.
        sha256: Of the file's bytes, and of those of the weight files that it refers to, in order
            of their names; hexadecimal.
        model: The parsed model, external data loaded.
    """

    path: Path
    sha256: str
    model: onnx.ModelProto


def read_onnx(path: str | Path) -> OnnxFile:
    """Read an ONNX file and what it refers to.

    Nothing in the file is executed. Weights kept beside the file are read only from the file's own
    folder. Local functions are inlined, so that the graph holds operators only.

    Args:
        path: An `.onnx` file.

    Returns:
        The parsed model. Whether the operators are valid is checked by `check_valid`.

    Raises:
        TypeError: If `path` is no path.
        FileNotFoundError: If the file is missing.
        ValueError: If it is no ONNX file, is cut off, or its external data is missing, damaged
            or outside the folder.
    """
    if not isinstance(path, (str, Path)):
        raise TypeError(
            f"`path` must be the path of an .onnx file. Received: {type(path).__name__}."
        )
    path = Path(path)
    if path.is_dir():
        raise ValueError(
            f"{str(path)!r} is a directory, not an .onnx file. For a TensorFlow SavedModel use "
            "from_saved_model."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}. Check the path.")
    content = path.read_bytes()
    model = _parse(content, path)
    digest = hashlib.sha256(content)
    for file in sorted(_load_external_data(model, path)):
        digest.update(file.read_bytes())
    if model.functions:
        model = inline_local_functions(model)
    return OnnxFile(path, digest.hexdigest(), model)


def check_valid(file: OnnxFile) -> None:
    """Refuse a model that breaks the ONNX standard.

    Raises:
        ValueError: If the graph is cyclic or out of order, a tensor is defined twice or never, or
            an operator's attributes are wrong.
    """
    try:
        onnx.checker.check_model(file.model)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{file.path.name!r} is not a valid ONNX model: {reason} Export it again, or download "
            "it again."
        ) from error


def _parse(content: bytes, path: Path) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ValueError(
            f"{path.name!r} is cut off or is no ONNX file. Received: {len(content):,} bytes that "
            "do not decode as an ONNX model. Copy or export it again."
        ) from error
    if not model.ir_version or not model.graph.node:
        raise ValueError(
            f"{path.name!r} is no ONNX model, or an empty one. Received: {len(content):,} bytes "
            f"with {len(model.graph.node)} nodes. Copy or export it again."
        )
    if len(model.graph.node) > MAX_NODES:
        raise ValueError(
            f"{path.name!r} has {len(model.graph.node):,} nodes. At most {MAX_NODES:,} are read."
        )
    return model


def _load_external_data(model: onnx.ModelProto, path: Path) -> set[Path]:
    """Read weights kept in other files, which must lie in the model's folder; those files."""
    files = set()
    folder = path.parent.resolve()
    external = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in external:
        location = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        target = (folder / location).resolve()
        if not location or not target.is_relative_to(folder):
            raise ValueError(
                f"{path.name!r} keeps the tensor {tensor.name!r} outside its own folder. Received: "
                f"location {location!r}. External data must lie in the model's folder."
            )
        if not target.is_file():
            raise ValueError(
                f"{path.name!r} keeps its weights in {location!r}, which is missing. Put that file "
                "beside the model, or export with external_data=False."
            )
        try:
            load_external_data_for_tensor(tensor, str(folder))
        except (ValueError, OSError, onnx.checker.ValidationError) as error:
            raise ValueError(
                f"{path.name!r} keeps the tensor {tensor.name!r} in {location!r}, which does not "
                f"hold it: {error} Copy both files again."
            ) from error
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
        files.add(target)
    return files

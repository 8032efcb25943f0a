"""Reading an ONNX file as what it is: untrusted input."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.inliner import inline_local_functions

from keras_amalgam.teachers.onnx_files.bounds import (
    MAX_BYTES,
    drop_unused_nodes,
    refuse_bombs,
    refuse_too_many_nodes,
)
from keras_amalgam.teachers.onnx_files.external_data import load_external_data
from keras_amalgam.teachers.onnx_files.form import refuse_other_forms

_CHUNK = 2**20
_DEPRECATED = {"GroupNormalization"}  # Of opsets 18 to 20.


@dataclass(frozen=True)
class OnnxFile:
    """A checked ONNX file.

    Args:
        path: Where it was read from.
        sha256: Of the file's bytes, and of those of the weight files that it refers to, in order
            of their names; hexadecimal.
        model: The parsed model, external data loaded.
        files: The file itself and the weight files; empty for a model that was made in memory.
    """

    path: Path
    sha256: str
    model: onnx.ModelProto
    files: tuple[Path, ...] = ()

    @property
    def producer(self) -> str:
        """What wrote it, with its version, as far as the file says."""
        return f"{self.model.producer_name or 'unknown'} {self.model.producer_version}".strip()

    @property
    def opset(self) -> int | None:
        """Of the standard domain; `None` where no node is of it."""
        standard = (e.version for e in self.model.opset_import if e.domain in ("", "ai.onnx"))
        return next(standard, None)


def read_onnx(path: str | Path) -> OnnxFile:
    """Read an ONNX file and what it refers to.

    Nothing in the file is executed. Weights kept beside the file are read only from the file's own
    folder. Local functions are inlined, so that the graph holds operators only; nodes that no
    output needs are left out. What would need unbounded memory or time is refused: see
    `onnx_bounds`.

    Args:
        path: An `.onnx` file.

    Returns:
        The parsed model. Whether the operators are valid is checked by `check_valid`.

    Raises:
        TypeError: If `path` is no path.
        FileNotFoundError: If the file is missing.
        NotImplementedError: If a tensor is sparse or of an element type that is not read.
        ValueError: If it is no ONNX file, is cut off, too large or of a form that is not read, or
            its external data is missing, damaged or outside the folder.
    """
    if not isinstance(path, (str, Path)):
        raise TypeError(
            f"`path` must be the path of an .onnx file. Received: {type(path).__name__}."
        )
    path = Path(path)
    content = _content(path)
    refuse_bombs(content, path.name)
    model = _parse(content, path)
    digest = hashlib.sha256(content)
    del content
    refuse_too_many_nodes(model, path.name)
    weights = load_external_data(model, path)
    for file in weights:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    if model.functions:
        model = _inlined(model, path)
    drop_unused_nodes(model.graph)
    refuse_other_forms(model, path.name)
    return OnnxFile(path, digest.hexdigest(), model, (path, *weights))


def check_valid(file: OnnxFile) -> None:
    """Refuse a model that breaks the ONNX standard.

    Raises:
        ValueError: If the graph is cyclic or out of order, a tensor is defined twice or never, or
            an operator's attributes are wrong.
    """
    try:
        with _without_deprecation(file.model), _with_output_shapes(file.model):
            onnx.checker.check_model(file.model)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{file.path.name!r} is not a valid ONNX model: {reason} Export it again, or download "
            "it again."
        ) from error


@contextmanager
def _without_deprecation(model: onnx.ModelProto) -> Iterator[None]:
    """The model with its deprecated operators in a domain that the checker does not know.

    It refuses them, although the standard defines them, exporters write them and runtimes run them;
    and it stops there, so that leaving its refusal unheeded would leave the rest unchecked.
    """
    nodes = [n for n in model.graph.node if n.op_type in _DEPRECATED and not n.domain]
    count = len(model.opset_import)
    if nodes:
        model.opset_import.append(onnx.helper.make_opsetid("deprecated", 1))
    for node in nodes:
        node.domain = "deprecated"
    try:
        yield
    finally:
        for node in nodes:
            node.domain = ""
        del model.opset_import[count:]


@contextmanager
def _with_output_shapes(model: onnx.ModelProto) -> Iterator[None]:
    """The model with a shape at every output; the checker misses one that no runtime needs."""
    types = [output.type.tensor_type for output in model.graph.output]
    without = [tensor for tensor in types if not tensor.HasField("shape")]
    for tensor in without:
        tensor.shape.SetInParent()
    try:
        yield
    finally:
        for tensor in without:
            tensor.ClearField("shape")


def _content(path: Path) -> bytes:
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except ValueError as error:  # A NUL byte.
        raise ValueError(f"{str(path)!r} is no path: {error}. Check the path.") from error
    if is_folder:
        raise ValueError(
            f"{str(path)!r} is a directory, not an .onnx file. For a TensorFlow SavedModel use "
            "from_saved_model."
        )
    if not is_file:
        raise FileNotFoundError(f"There is no file {str(path)!r}. Check the path.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(
            f"{path.name!r} is larger than an ONNX file can be, which holds at most 2 GB. "
            f"Received: {size:,} bytes. Keep large weights in a file beside it "
            "(`save_as_external_data`)."
        )
    return path.read_bytes()


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
    del model.training_info[:]  # Nobody reads it, and it may hold tensors in other files.
    return model


def _inlined(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    try:
        return inline_local_functions(model)
    except (onnx.checker.ValidationError, RuntimeError) as error:
        raise ValueError(
            f"The local functions of {path.name!r} cannot be written out: {error} Export with "
            "functions inlined."
        ) from error

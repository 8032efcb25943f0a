"""Looking into SavedModels."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_amalgam.files.contents import bytes_on_disk, sha256_of_directory
from keras_amalgam.models.heads import CANNOT_TELL, seems_to_be
from keras_amalgam.teachers.conversion.chosen_output import check_output
from keras_amalgam.teachers.inspection.onnx_inspection import describe
from keras_amalgam.teachers.inspection.report import Inspection, Tensor, operators_of
from keras_amalgam.teachers.onnx_files.file import OnnxFile
from keras_amalgam.teachers.saved_models.file import (
    SavedModel,
    as_onnx,
    read_saved_model,
)

# What a serving function reads and returns, rather than computes.
_AROUND = {"Const", "Identity", "NoOp", "Placeholder", "ReadVariableOp", "StatefulPartitionedCall"}


def inspect_saved_model(directory: Path, signature: str, output: str | None = None) -> Inspection:
    """Describe a SavedModel by the ONNX form that it is converted through."""
    saved = read_saved_model(directory, signature)
    check_output(output, saved.outputs, f"The SavedModel {directory.name!r}")
    digest = sha256_of_directory(directory)
    size = bytes_on_disk(directory)
    try:
        file = OnnxFile(directory, digest, as_onnx(saved, output))
        found = describe(file, saved.framework, size, output)
    except (NotImplementedError, ValueError) as error:
        described = _described_by_tensorflow(saved, digest, size, str(error))
        return replace(described, output=output)
    return replace(
        found,
        format="SavedModel",
        opsets={},
        inputs=tuple(
            replace(tensor, name=saved.input_name) if len(found.inputs) == 1 else tensor
            for tensor in found.inputs
        ),
        outputs=_outputs(saved, found),
        runtime="TensorFlow",
    )


def _outputs(saved: SavedModel, found: Inspection) -> tuple[Tensor, ...]:
    """All that the function returns; what the ONNX form tells of it where that has it."""
    known = {tensor.name: tensor for tensor in found.outputs}
    specs = saved.function.structured_outputs
    return tuple(known.get(name) or _output(name, specs[name]) for name in saved.outputs)


def _described_by_tensorflow(
    saved: SavedModel, digest: str, size: int, obstacle: str
) -> Inspection:
    graph = saved.function.graph.as_graph_def()
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    outputs = saved.function.structured_outputs.items()
    return Inspection(
        file=saved.directory.name,
        format="SavedModel",
        producer=saved.framework,
        opsets={},
        bytes=size,
        sha256=digest,
        inputs=(_tensor(saved.input_name, saved.input_spec),),
        outputs=tuple(_output(name, tensor) for name, tensor in outputs),
        parameters=sum(int(v.shape.num_elements() or 0) for v in saved.function.variables),
        operators=operators_of(
            (node.op, node.name, f"{node.op!r}" not in obstacle)
            for node in nodes
            if node.op not in _AROUND
        ),
        built_in=None,
        shows_built_in=False,
        taps=(),
        obstacle=obstacle,
        runtime="TensorFlow",
    )


def _tensor(name: str, spec: Any) -> Tensor:
    shape = tuple(spec.shape) if spec.shape.rank is not None else ()
    return Tensor(name, shape, spec.dtype.name, "channels last" if len(shape) == 4 else "")


def _output(name: str, spec: Any) -> Tensor:
    """An output by its shape and type alone: what computes it is inside of functions."""
    tensor = _tensor(name, spec)
    note = seems_to_be("", tensor.shape, tensor.dtype)
    return replace(tensor, note="" if note == CANNOT_TELL else note)

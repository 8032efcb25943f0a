"""Looking into SavedModels."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_amalgam.teachers.inspection.onnx_inspection import describe
from keras_amalgam.teachers.inspection.report import Inspection, Tensor, operators_of
from keras_amalgam.teachers.onnx_file import OnnxFile
from keras_amalgam.teachers.saved_model_file import (
    SavedModel,
    as_onnx,
    read_saved_model,
    sha256_of_directory,
)

# What a serving function reads and returns, rather than computes.
_AROUND = {"Const", "Identity", "NoOp", "Placeholder", "ReadVariableOp", "StatefulPartitionedCall"}


def inspect_saved_model(directory: Path, signature: str) -> Inspection:
    """Describe a SavedModel by the ONNX form that it is converted through."""
    saved = read_saved_model(directory, signature)
    digest = sha256_of_directory(directory)
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    try:
        found = describe(OnnxFile(directory, digest, as_onnx(saved)), saved.framework, size)
    except (NotImplementedError, ValueError) as error:
        return _described_by_tensorflow(saved, digest, size, str(error))
    return replace(
        found,
        format="SavedModel",
        opsets={},
        inputs=tuple(
            replace(tensor, name=saved.input_name) if len(found.inputs) == 1 else tensor
            for tensor in found.inputs
        ),
        outputs=tuple(
            replace(tensor, name=name)
            for tensor, name in zip(found.outputs, _output_names(saved, found), strict=True)
        ),
        runtime="TensorFlow",
    )


def _output_names(saved: SavedModel, found: Inspection) -> list[str]:
    names = list(saved.function.structured_outputs)
    return names if len(names) == len(found.outputs) else [t.name for t in found.outputs]


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
        outputs=tuple(_tensor(name, tensor) for name, tensor in outputs),
        parameters=sum(int(v.shape.num_elements() or 0) for v in saved.function.variables),
        operators=operators_of(
            (node.op, node.name, f"{node.op!r}" not in obstacle)
            for node in nodes
            if node.op not in _AROUND
        ),
        preparing=(),
        taps=(),
        obstacle=obstacle,
        runtime="TensorFlow",
    )


def _tensor(name: str, spec: Any) -> Tensor:
    shape = tuple(spec.shape) if spec.shape.rank is not None else ()
    return Tensor(name, shape, spec.dtype.name, "channels last" if len(shape) == 4 else "")

"""Which tensor of a source is which tensor of the model that was made of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.teachers.conversion import Conversion, convert_file
from keras_amalgam.teachers.keras_file import read_keras
from keras_amalgam.teachers.names import layer_name, name_map
from keras_amalgam.teachers.onnx_file import read_onnx
from keras_amalgam.teachers.saved_model_file import read_saved_model
from keras_amalgam.teachers.source_runtimes import (
    KerasRuntime,
    OnnxRuntime,
    SavedModelRuntime,
    SourceRuntime,
    as_functional,
    output_names,
)
from keras_amalgam.teachers.writer import as_layer_name

Source = str | Path | keras.Model | SourceRuntime


@dataclass(frozen=True)
class Pair:
    """One tensor on both sides.

    Args:
        source: The tensor's name in the source.
        tensor: The Keras tensor.
        order: Source axis that each Keras axis holds.
            where: What makes it, in the words of an error message.
        columns: See `layout.Value`.
    """

    source: str
    tensor: Any
    order: tuple[int, ...]
    where: str
    columns: np.ndarray | None = None

    def in_model_layout(self, array: np.ndarray) -> np.ndarray:
        """The source's array with the axes and columns of the Keras tensor.

        Raises:
            ValueError: If it has another number of axes.
        """
        if array.ndim != len(self.order):
            raise ValueError(
                f"Source and converted network give different shapes at {self.where}. Received: "
                f"{array.shape} from the source. Expected {len(self.order)} axes. The source drops "
                "an axis of size one for some batch sizes: export it with a fixed number of axes."
            )
        array = array.transpose(self.order)
        return array if self.columns is None else array[:, self.columns]


@dataclass(frozen=True)
class Pairing:
    """All that can be compared between a source and a model.

    Args:
        runtime: The source.
        outputs: Its outputs.
        inside: Tensors inside, in topological order.
        names: Source names of tensors inside: tensors, nodes, modules, layers.
    """

    runtime: SourceRuntime
    outputs: tuple[Pair, ...]
    inside: tuple[Pair, ...]
    names: dict[str, Pair]


def pair(model: keras.Model, source: Source) -> Pairing:
    """Find what a converted model and its source have in common.

    Args:
        model: From one of the `from_…` functions.
        source: A file, a SavedModel directory, a Keras model or a runtime.

    Raises:
        ValueError: If the model does not come from such a source.
    """
    model = as_functional(model)
    if isinstance(source, keras.Model):
        return _pair_keras(model, as_functional(source))
    if isinstance(source, (str, Path)):
        if Path(source).suffix == ".onnx":
            return _pair_onnx(model, source)
        if not Path(source).is_dir():
            return _pair_keras(model, as_functional(read_keras(source)))
        source = SavedModelRuntime(read_saved_model(source))
    if len(source.outputs) != len(model.outputs):
        raise _foreign(model, f"{len(source.outputs)} outputs {source.outputs}")
    return Pairing(source, _outputs(model, source), (), {})


def _pair_keras(model: keras.Model, source: keras.Model) -> Pairing:
    names = [layer.name for layer in source.layers]
    if names != [layer.name for layer in model.layers]:
        raise _foreign(model, f"a Keras model of layers {names[:8]}…")
    runtime = KerasRuntime(source)
    inside = tuple(
        _same_layout(layer.name, layer.output, f"layer {layer.name!r}")
        for layer in model.layers
        # A nested model's output, and that of a layer called twice, is not in the outer graph.
        if not isinstance(layer, keras.Model) and len(layer._inbound_nodes) == 1
    )
    return Pairing(runtime, _outputs(model, runtime), inside, {p.source: p for p in inside})


def _same_layout(name: str, tensor: Any, where: str) -> Pair:
    return Pair(name, tensor, tuple(range(len(tensor.shape))), where)


def _outputs(model: keras.Model, runtime: SourceRuntime) -> tuple[Pair, ...]:
    """Outputs by name where the names agree, else in their order."""
    own = dict(zip(output_names(model), model.outputs, strict=True))
    names = runtime.outputs if set(runtime.outputs) == set(own) else tuple(own)
    return tuple(
        _same_layout(source, own[name], "the output")
        for source, name in zip(runtime.outputs, names, strict=True)
    )


def pair_conversion(model: keras.Model, conversion: Conversion) -> Pairing:
    """The tensors of an ONNX file and of the model it became.

    Args:
        model: The conversion's own model, or one with the same layers.
        conversion: Of the file.
    """
    graph = conversion.graph
    image = conversion.values[graph.inputs[0].name]
    runtime = OnnxRuntime(conversion.source, image.order)
    outputs = dict(zip(runtime.outputs, model.outputs, strict=True))
    if isinstance(model.output, dict):
        outputs = {name: model.output[as_layer_name(name)] for name in runtime.outputs}
    pairs = {}
    for node in graph.nodes:
        name = node.outputs[0]
        value = conversion.values.get(name)
        if value is not None and value.tensor.dtype == "float32":
            tensor = outputs.get(name)
            if tensor is None:
                tensor = model.get_layer(layer_name(value)).output
            where = f"node {node.name!r} ({node.operator})"
            pairs[name] = Pair(name, tensor, value.order, where, value.columns)
    inside = tuple(p for name, p in pairs.items() if name not in outputs)
    by_layer = {layer_name(conversion.values[p.source]): p for p in inside}
    names = {
        name: by_layer[layer]
        for name, layer in name_map(graph, conversion.values).items()
        if layer in by_layer
    }
    return Pairing(runtime, tuple(pairs[name] for name in outputs), inside, by_layer | names)


def _pair_onnx(model: keras.Model, path: str | Path) -> Pairing:
    """Convert the file again: conversion is deterministic, so its layers are the model's."""
    layers = [layer.name for layer in model.layers]
    for fold_batch_norm in (False, True):
        conversion = convert_file(read_onnx(path), tuple(model.input_shape[1:]), fold_batch_norm)
        if [layer.name for layer in conversion.model.layers] == layers:
            return pair_conversion(model, conversion)
    raise _foreign(model, f"the file {Path(path).name!r}, which becomes other layers")


def _foreign(model: keras.Model, found: str) -> ValueError:
    return ValueError(
        f"The model {model.name!r} was not made from this source. Received: {found}. Pass the file "
        "that it was converted from."
    )

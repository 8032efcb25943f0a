"""Which tensor of a source is which tensor of the model that was made of it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.models.taps import as_functional
from keras_amalgam.teachers.conversion.chosen_output import (
    may_be_made_of,
    model_of_output,
    named_outputs,
)
from keras_amalgam.teachers.conversion.convert import Conversion, convert_file
from keras_amalgam.teachers.conversion.names import layer_name
from keras_amalgam.teachers.conversion.writer import output_keys
from keras_amalgam.teachers.keras_files.file import read_keras
from keras_amalgam.teachers.onnx_files.file import OnnxFile, read_onnx
from keras_amalgam.teachers.runtimes.source_runtimes import (
    KerasRuntime,
    OnnxRuntime,
    SavedModelRuntime,
    SourceRuntime,
    in_another_order,
)
from keras_amalgam.teachers.saved_models.file import SavedModel, as_onnx, read_saved_model

Source = str | Path | keras.Model | SavedModel | SourceRuntime


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
        images: The number of images that tensors inside must be compared with, if the source is
            made for one: the batch need not be their first axis, so that none can be cut off.
    """

    runtime: SourceRuntime
    outputs: tuple[Pair, ...]
    inside: tuple[Pair, ...]
    names: dict[str, Pair]
    images: int | None = None


def pair(model: keras.Model, source: Source) -> Pairing:
    """Find what a converted model and its source have in common.

    Args:
        model: From one of the `from_…` functions.
        source: A file, a SavedModel or its directory, a Keras model or a runtime.

    Raises:
        ValueError: If the model does not come from such a source.
    """
    model = as_functional(model)
    if isinstance(source, keras.Model):
        return _pair_keras(model, as_functional(source))
    if isinstance(source, (str, Path)):
        if Path(source).suffix.lower() == ".onnx":
            return _pair_onnx(model, source)
        if not Path(source).is_dir():
            return _pair_keras(model, as_functional(read_keras(source)))
        source = read_saved_model(source)
    if isinstance(source, SavedModel):
        return _pair_saved_model(model, source)
    return _pair_outputs(model, source)


def _pair_outputs(model: keras.Model, runtime: SourceRuntime) -> Pairing:
    chosen = may_be_made_of(model, runtime.outputs)
    if len(chosen) != 1:
        raise _foreign(model, f"{len(runtime.outputs)} outputs {runtime.outputs}")
    return Pairing(runtime, _outputs(model, _all_or(chosen[0], runtime.outputs)), (), {})


def _all_or(output: str | None, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(names) if output is None else (output,)


def _pair_keras(model: keras.Model, source: keras.Model) -> Pairing:
    """Layers by their place: Keras numbers some, so that a rebuilt network's names differ."""
    runtime = KerasRuntime(source)
    chosen = may_be_made_of(model, runtime.outputs)
    parts = [model_of_output(source, output) for output in chosen]
    index = _closest(model, parts)
    if index is None:
        names = [layer.name for layer in source.layers]
        raise _foreign(model, f"a Keras model of layers {names[:8]}…")
    layers = zip(model.layers, parts[index].layers, strict=True)
    theirs = {ours.name: layer.name for ours, layer in layers}
    pairs = {
        name: _same_layout(theirs[name], tensor, f"layer {name!r}")
        for name, tensor in _layer_outputs(model).items()
    }
    outputs = _outputs(model, _all_or(chosen[index], runtime.outputs))
    return Pairing(runtime, outputs, tuple(pairs.values()), pairs)


def _layer_outputs(model: keras.Model) -> dict[str, Any]:
    """The output of every layer that the model calls once, by the layer's name.

    That of a layer called twice is ambiguous, and that of a nested model not in the outer graph.
    """
    nodes = chain.from_iterable(model._nodes_by_depth.values())
    calls = Counter(id(node.operation) for node in nodes)
    return {
        layer.name: layer.output
        for layer in model.layers
        if not isinstance(layer, keras.Model) and calls[id(layer)] == 1
    }


def _same_layout(name: str, tensor: Any, where: str) -> Pair:
    return Pair(name, tensor, tuple(range(len(tensor.shape))), where)


def _outputs(model: keras.Model, sources: Sequence[str]) -> tuple[Pair, ...]:
    """Outputs by name where the names agree, as they are or as keys, else in their order."""
    own = named_outputs(model)
    same = dict(zip(sources, sources, strict=True))
    in_order = dict(zip(sources, own, strict=True))
    known = (same, output_keys(sources))
    keys = next((names for names in known if set(names.values()) == set(own)), in_order)
    return tuple(_same_layout(source, own[keys[source]], "the output") for source in sources)


def pair_conversion(model: keras.Model, conversion: Conversion) -> Pairing:
    """The tensors of an ONNX file and of the model it became.

    Args:
        model: The conversion's own model, or one with the same layers at the same places.
        conversion: Of the file.
    """
    graph = conversion.graph
    image = conversion.values[graph.inputs[0].name]
    runtime = OnnxRuntime(conversion.source, image.order)
    theirs = [layer.name for layer in conversion.model.layers]
    ours = dict(zip(theirs, (layer.name for layer in model.layers), strict=True))
    names = [port.name for port in graph.outputs]
    outputs = {pair.source: pair.tensor for pair in _outputs(model, names)}
    pairs = {}
    made = [(name, node) for node in graph.nodes for name in node.outputs]
    for name, node in made:
        value = conversion.values.get(name)
        if value is not None and (value.tensor.dtype == "float32" or name in outputs):
            tensor = outputs.get(name)
            if tensor is None and layer_name(value) not in ours:
                continue  # A part that nobody reads is not in the model.
            if tensor is None:
                tensor = model.get_layer(ours[layer_name(value)]).output
            where = f"node {node.name!r} ({node.operator})"
            pairs[name] = Pair(name, tensor, value.order, where, value.columns)
    inside = tuple(p for name, p in pairs.items() if name not in outputs)
    by_layer = {ours[layer_name(conversion.values[p.source])]: p for p in inside}
    names = {
        name: by_layer[ours[layer]]
        for name, layer in conversion.names.items()
        if ours.get(layer) in by_layer
    }
    outside = tuple(pairs[name] for name in outputs)
    return Pairing(runtime, outside, inside, by_layer | names, graph.inputs[0].shape[0])


def _pair_onnx(model: keras.Model, path: str | Path) -> Pairing:
    file = read_onnx(path)
    outputs = [port.name for port in file.model.graph.output]
    shape = tuple(model.input_shape[1:])
    conversion = _converted_again(model, outputs, lambda output: file, shape)
    if conversion is None:
        raise _foreign(model, f"the file {Path(path).name!r}, which becomes other layers")
    return pair_conversion(model, conversion)


def _pair_saved_model(model: keras.Model, saved: SavedModel) -> Pairing:
    """The outputs of the SavedModel itself, and the tensors inside of its ONNX form."""
    outer = SavedModelRuntime(saved)
    conversion = _converted_again(
        model,
        outer.outputs,
        lambda output: OnnxFile(saved.directory, "", as_onnx(saved, output)),
        None,
    )
    if conversion is None:
        raise _foreign(model, f"the SavedModel {saved.directory.name!r} of other layers")
    inner = pair_conversion(model, conversion)
    runtime = OutputsAndInside(outer, inner.runtime)
    outputs = _outputs(model, [port.name for port in conversion.graph.outputs])
    return Pairing(runtime, outputs, inner.inside, inner.names, inner.images)


class OutputsAndInside:
    """A source whose tensors inside another runtime shows."""

    def __init__(self, outer: SourceRuntime, inner: SourceRuntime) -> None:
        self._outer, self._inner = outer, inner
        self.outputs = outer.outputs

    def run(self, images: np.ndarray, tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """See `SourceRuntime`."""
        inside = [name for name in tensors if name not in self.outputs]
        outputs = [name for name in tensors if name in self.outputs]
        found = self._outer.run(images, outputs) if outputs else {}
        return found | (self._inner.run(images, inside) if inside else {})

    def otherwise(self) -> SourceRuntime | None:
        """See `in_another_order`."""
        outer, inner = in_another_order(self._outer), in_another_order(self._inner)
        return OutputsAndInside(outer, inner) if outer and inner else None


def _converted_again(
    model: keras.Model,
    outputs: Sequence[str],
    file_of: Callable[[str | None], OnnxFile],
    shape: tuple[int | None, ...] | None,
) -> Conversion | None:
    """The conversion that a model is from: it is deterministic, so its layers are the model's.

    Args:
        model: Whose source it is.
        outputs: The source's, of which the model may hold one.
        file_of: The source in ONNX, with at least the one output; asked once for each.
        shape: Of one image, channels last, if the file may leave it open.
    """
    chosen = may_be_made_of(model, outputs)
    # Which of the two it was, the provenance tells where it is there.
    is_folded = bool(getattr(getattr(model, "provenance", None), "batch_norm", None))
    found: list[Conversion] = []
    for output in chosen:
        try:
            file = file_of(output)
            for fold_batch_norm in (is_folded, not is_folded):
                found.append(convert_file(file, shape, fold_batch_norm, output))
                if len(chosen) == 1 and _has_layers(model, found[-1].model):
                    return found[-1]
        except (NotImplementedError, ValueError):
            if len(chosen) == 1:
                raise
    index = _closest(model, [conversion.model for conversion in found])
    return None if index is None else found[index]


def _closest(model: keras.Model, parts: Sequence[keras.Model]) -> int | None:
    """Which part has the model's layers; of several the one with most of their names.

    Names alone do not tell: Keras and tf2onnx put running numbers into some.
    """
    names = {layer.name for layer in model.layers}
    common = {
        index: len(names.intersection(layer.name for layer in part.layers))
        for index, part in enumerate(parts)
        if _has_layers(model, part)
    }
    return max(common, key=lambda index: common[index], default=None)


def _has_layers(model: keras.Model, part: keras.Model) -> bool:
    return [type(layer) for layer in model.layers] == [type(layer) for layer in part.layers]


def _foreign(model: keras.Model, found: str) -> ValueError:
    return ValueError(
        f"The model {model.name!r} was not made from this source. Received: {found}. Pass the file "
        "that it was converted from."
    )

"""The weights in files of Keras 2, each to the layer that the file names."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.files.keras_bounds import is_archive, opened_weights
from keras_amalgam.teachers.keras_files.keras_2 import MODELS, layers_of
from keras_amalgam.teachers.keras_files.keras_2_layers import name_in_keras_3

# Where a model keeps its layers in a .keras file: since Keras 2.13, and before.
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
# Names that a variable keeps: a kernel is no bias, a mean no variance.
_KINDS = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "mean", "variance")


def fill_from_keras_2(model: keras.Model, config: dict[str, Any], path: Path) -> None:
    """Load all weights, each layer's by the layer's name or place in the file.

    Keras itself goes by the order of the model's layers, which may be another in one that was
    translated, and does not notice where shapes are alike.

    Args:
        model: What `in_keras_3` described.
        config: The model's configuration as the file has it.
        path: A `.keras` or `.h5` file of Keras 2.

    Raises:
        ValueError: If the file has other weights than the model.
    """
    with opened_weights(path) as file:
        if is_archive(path):
            number = _fill_from_archive(model, config, file)
        else:
            number = _fill_from_groups(model, config, file["model_weights"])
    if number != len(model.weights):
        raise ValueError(
            f"Received: {number} arrays of weights. Expected {len(model.weights)}, one for each "
            "weight of the network."
        )


def _fill_from_groups(model: keras.Model, config: dict[str, Any], group: Any) -> int:
    """Weights of an .h5 file, whose groups bear the names of the outermost layers."""
    number = 0
    for part in layers_of(config):
        name = _name(part)
        names = _texts(group[name], "weight_names") if name in group else []
        if not names:
            continue
        layer = model.get_layer(name_in_keras_3(name))
        trainable, others = _variables(layer, part)
        arrays = [np.asarray(group[name][weight]) for weight in names]
        _assign(name, [*trainable, *others], names, arrays)
        for inner in _leaves(layer):
            if isinstance(inner, keras.layers.Normalization):
                inner.finalize_state()
        number += len(arrays)
    return number


def _texts(group: Any, attribute: str) -> list[str]:
    """Texts of an attribute, which Keras cuts into numbered ones where they are many."""
    parts = [attribute] if attribute in group.attrs else []
    while not parts or parts[-1] != attribute:
        numbered = f"{attribute}{len(parts)}"
        if numbered not in group.attrs:
            break
        parts.append(numbered)
    texts = [text for part in parts for text in group.attrs[part]]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def _variables(layer: Any, part: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What is trained and what is not, in the order in which Keras 2 lists a layer's weights."""
    if part["class_name"] not in MODELS:
        return list(layer.trainable_weights), list(layer.non_trainable_weights)
    known = {inner.name: inner for inner in layer.layers}
    trainable, others = [], []
    for inner in layers_of(part):
        name = name_in_keras_3(_name(inner))
        if name in known:  # Calls of TensorFlow are no layers.
            more, further = _variables(known[name], inner)
            trainable += more
            others += further
    return trainable, others


def _assign(name: str, variables: list[Any], names: list[str], arrays: list[np.ndarray]) -> None:
    shapes = [tuple(variable.shape) for variable in variables]
    kinds = [weight.split("/")[-1].split(":")[0] for weight in names]
    other = [
        (kind, variable.name)
        for kind, variable in zip(kinds, variables, strict=False)
        if kind != variable.name and kind in _KINDS and variable.name in _KINDS
    ]
    if other or shapes != [array.shape for array in arrays]:
        raise ValueError(
            f"Received: weights {names} of shapes {[array.shape for array in arrays]} for the "
            f"layer {name!r}. Expected {[v.name for v in variables]} of shapes {shapes}."
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _leaves(layer: Any) -> Iterator[Any]:
    """The layer, or all layers of a model at any depth."""
    if isinstance(layer, keras.Model):
        for inner in layer.layers:
            yield from _leaves(inner)
    else:
        yield layer


def _fill_from_archive(model: Any, config: dict[str, Any], group: Any) -> int:
    """Weights of a .keras file, whose groups are numbered by the layers' classes."""
    container = next((group[name] for name in _CONTAINERS if name in group), {})
    known = {layer.name: layer for layer in model.layers}
    seen: Counter[str] = Counter()
    number = 0
    for part in layers_of(config):
        kind = _snake_case(part["class_name"].split(">")[-1])
        name = f"{kind}_{seen[kind]}" if seen[kind] else kind
        seen[kind] += 1
        layer = known.get(name_in_keras_3(_name(part)))  # Calls of TensorFlow are no layers.
        if name in container and layer is not None:
            fill = _fill_from_archive if part["class_name"] in MODELS else _fill_layer
            number += fill(layer, part, container[name])
    return number


def _fill_layer(layer: Any, part: Any, group: Any) -> int:
    """A layer's own weights, and those of layers that are its attributes."""
    number = 0
    for name in group:
        if name == "vars":
            arrays = {key: np.asarray(array) for key, array in group[name].items()}
            if arrays:
                layer.load_own_variables(arrays)
            number += len(arrays)
        elif isinstance(inner := getattr(layer, name, None), keras.Layer):
            number += _fill_layer(inner, part, group[name])
    return number


def _snake_case(name: str) -> str:
    """A class's name as Keras writes it in a file: `Conv2DTranspose` is `conv2d_transpose`."""
    parted = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", parted).lower()


def _name(part: dict[str, Any]) -> str:
    inner = part["config"]
    return part.get("name") or (inner["name"] if isinstance(inner, dict) else "sequential")

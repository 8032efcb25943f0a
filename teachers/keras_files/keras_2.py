"""Configurations of Keras 2 in the words of Keras 3."""

from collections.abc import Iterator
from typing import Any

from keras_amalgam.teachers.keras_files.keras_2_layers import (
    class_in_keras_3,
    name_in_keras_3,
    settings_in_keras_3,
)
from keras_amalgam.teachers.keras_files.keras_2_operations import ELLIPSIS, operation_of

MODELS = ("Functional", "Model", "Sequential")


def in_keras_3(config: Any) -> dict[str, Any]:
    """A model's configuration, as Keras 2 wrote it, as Keras 3 reads it.

    Sequential models become functional ones. Regularizers, constraints and initializers, which
    are for training, are left out. What Keras 3 has not, such as calls of TensorFlow and Keras 2's
    `hard_sigmoid`, becomes operations of Keras while the model is built, see `keras_2_stand_ins`.

    Args:
        config: Parsed; `{"class_name": …, "config": …}`.

    Raises:
        ValueError: If it is no model of layers, or a setting means something Keras 3 cannot do.
    """
    if not isinstance(config, dict) or config.get("class_name") not in MODELS:
        kind = config.get("class_name") if isinstance(config, dict) else config
        raise ValueError(
            f"Received: a model of class {kind!r}. Expected one of {', '.join(MODELS)}, whose "
            "layers the file lists."
        )
    return _model(config)


def layers_of(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers that a configuration of a model lists, in the order of its weights."""
    inner = config["config"]
    # Until Keras 2.2, a sequential model's configuration was the list itself.
    return inner if isinstance(inner, list) else inner["layers"]


def _model(config: dict[str, Any]) -> dict[str, Any]:
    inner = config["config"] if isinstance(config["config"], dict) else {}
    layers = layers_of(config)
    if config["class_name"] == "Sequential":
        layers = _chained(layers, inner.get("build_input_shape"))
        inner = inner | {
            "input_layers": [[layers[0]["name"], 0, 0]],
            "output_layers": [[layers[-1]["name"], 0, 0]],
        }
    nested = {layer["name"]: _first_node(layer, layers) for layer in layers if _is_model(layer)}
    for kind in ("input_layers", "output_layers"):
        inner = inner | {kind: _ports(inner[kind], nested)}
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "registered_name": "Functional",
        "config": {
            "name": name_in_keras_3(str(inner.get("name", "model"))),
            "trainable": inner.get("trainable", True),
            "layers": [_named_layer(layer, nested) for layer in layers],
            "input_layers": inner["input_layers"],
            "output_layers": inner["output_layers"],
        },
    }


def _is_model(layer: dict[str, Any]) -> bool:
    return layer["class_name"] in MODELS


def _chained(layers: list[dict[str, Any]], shape: Any) -> list[dict[str, Any]]:
    """The layers of a sequential model as nodes of a graph."""
    shape = layers[0]["config"].get("batch_input_shape", shape)
    if layers[0]["class_name"] != "InputLayer":
        if _is_model(layers[0]):
            shape = layers_of(layers[0])[0]["config"].get("batch_input_shape", shape)
        if shape is None:
            raise ValueError(
                "Received: a sequential model whose input shape the file does not say. Expected "
                "one that was built."
            )
        inputs = {"name": "images", "batch_input_shape": shape, "dtype": "float32"}
        layers = [{"class_name": "InputLayer", "config": inputs}, *layers]
    chained: list[dict[str, Any]] = []
    for layer in layers:
        inner = layer["config"]
        name = inner["name"] if isinstance(inner, dict) else "sequential"
        before = [[[chained[-1]["name"], 0, 0, {}]]] if chained else []
        chained.append(layer | {"name": name, "inbound_nodes": before})
    return chained


def _first_node(model: dict[str, Any], layers: list[dict[str, Any]]) -> int:
    """The number of a nested model's first call: 1, as 0 is its own graph, or 0 if it is used."""
    uses = [use for layer in layers for use in _references(layer["inbound_nodes"], model["name"])]
    return 0 if 0 in uses else 1


def _references(part: Any, name: str) -> Iterator[int]:
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, list):
        if len(part) >= 3 and part[0] == name and isinstance(part[1], int):
            yield part[1]
        for inner in part:
            yield from _references(inner, name)


def _ports(ports: Any, nested: dict[str, int]) -> Any:
    """A model's inputs or outputs, a single one by itself."""
    if isinstance(ports, dict):
        return {key: _ports(port, nested) for key, port in ports.items()}
    if len(ports) == 3 and isinstance(ports[0], str):
        name, node, tensor = ports
        # Keras 3 counts a nested model's own graph here, and not in the nodes of a layer.
        return [name_in_keras_3(name), node + (name in nested) * (1 - nested.get(name, 0)), tensor]
    return _ports(ports[0], nested) if len(ports) == 1 else [_ports(p, nested) for p in ports]


def _named_layer(layer: dict[str, Any], nested: dict[str, int]) -> dict[str, Any]:
    name = name_in_keras_3(layer["name"])
    translated = _layer(layer)
    if translated["class_name"] == "Functional":
        translated["config"]["name"] = name
    nodes = [_node(node, nested) for node in layer["inbound_nodes"]]
    return translated | {"name": name, "inbound_nodes": nodes}


def _node(node: Any, nested: dict[str, int]) -> dict[str, Any]:
    """What a layer is called with: `[name, node, tensor, settings]` of one tensor or several."""
    if isinstance(node, dict):
        raise ValueError("Received: a layer whose inputs are a dictionary. Expected tensors.")
    several = bool(node) and isinstance(node[0], list)
    tensors = [_argument(t[:3], nested) for t in (node if several else [node])]
    settings = next((t[3] for t in (node[-1:] if several else [node]) if len(t) > 3), {})
    return {
        "args": tensors if len(tensors) == 1 else [tensors],
        "kwargs": {
            name: _argument(value, nested)
            for name, value in settings.items()
            if (name, value) not in (("name", None), ("training", None), ("mask", None))
        },
    }


def _argument(value: Any, nested: dict[str, int]) -> Any:
    """A constant, or the tensor that `[name, node, tensor]` refers to."""
    if isinstance(value, dict):
        if value.get("class_name") == "__tuple__":
            return [_argument(item, nested) for item in value["items"]]
        if value.get("class_name") == "__ellipsis__":
            return ELLIPSIS
        return {key: _argument(item, nested) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    is_reference = len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int)
    if not is_reference:
        return [_argument(item, nested) for item in value]
    name, node, tensor = value
    if name == "_CONSTANT_VALUE":
        return tensor
    history = [name_in_keras_3(name), node - nested.get(name, 0), tensor]
    # Shape and type are those of the tensor that takes its place.
    place = {"shape": [], "dtype": "float32", "keras_history": history}
    return {"class_name": "__keras_tensor__", "config": place}


def _layer(layer: dict[str, Any]) -> dict[str, Any]:
    """One layer, or what is inside a layer that wraps another."""
    kind = layer["class_name"]
    if kind in MODELS:
        return _model(layer)
    if kind in ("TFOpLambda", "SlicingOpLambda"):
        name, function = layer["config"]["name"], layer["config"]["function"]
        operation_of(function)
        return _stand_in("TensorFlowCall", {"name": name_in_keras_3(name), "function": function})
    known = class_in_keras_3(kind)
    if known is None:
        # A class of the user's, or one that Keras will say it does not know.
        return layer | {"module": None, "registered_name": layer.get("registered_name") or kind}
    settings = settings_in_keras_3(kind, layer["config"], known, _layer)
    translated = {
        "module": "keras.layers",
        "class_name": known.__name__,
        "registered_name": None,
        "config": settings,
    }
    if settings.get("activation") != "hard_sigmoid":
        return translated
    if kind == "Activation":
        return _stand_in("HardSigmoid", {"name": settings["name"], "layer": None})
    settings["activation"] = "linear"
    return _stand_in("HardSigmoid", {"name": settings["name"], "layer": translated})


def _stand_in(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"module": None, "class_name": kind, "registered_name": kind, "config": config}

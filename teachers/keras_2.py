"""Configurations of Keras 2 in the words of Keras 3."""

import inspect
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import keras
from keras import ops

from keras_amalgam.teachers.keras_2_operations import ELLIPSIS, operation_of

# Settings that Keras 3 no longer has, with the values that change nothing; `None` for any value.
_GONE: dict[str, tuple[Any, ...] | None] = {
    "adjustment": (None,),
    "batch_input_shape": None,  # The input layer has it.
    "causal": (False,),
    "force_generator": None,  # Random numbers are for training.
    "fused": None,  # How it is computed.
    "groups": (1,),  # Of depthwise, separable and transposed convolutions.
    "implementation": None,  # How it is computed.
    "key_shape": None,  # The graph says it.
    "noise_shape": None,  # Noise is for training.
    "query_shape": None,  # The graph says it.
    "ragged": (False,),
    "renorm": (False,),
    "renorm_clipping": None,
    "renorm_momentum": None,
    "rng_type": None,
    "seed": None,  # Random numbers are for training.
    "time_major": (False,),
    "trainable": None,  # Of layers that have nothing to train.
    "value_shape": None,  # The graph says it.
    "virtual_batch_size": (None,),
}
# What only a new network needs: the file has the weights, and a teacher is not trained.
_FOR_TRAINING = ("_initializer", "_regularizer", "_constraint")
_RENAMED_CLASSES = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "ThresholdedReLU": "ReLU",
    # They change images in training only.
    "RandomHeight": "Identity",
    "RandomWidth": "Identity",
}
_RENAMED_SETTINGS = {
    ("LeakyReLU", "alpha"): "negative_slope",
    ("ThresholdedReLU", "theta"): "threshold",
    ("InputLayer", "batch_input_shape"): "batch_shape",
}
# TensorFlow's own names for functions that were passed as activations.
_RENAMED_ACTIVATIONS = {"softmax_v2": "softmax", "swish_v2": "swish", "swish_f32": "swish"}
_INTERPOLATIONS = ("area", "bicubic", "bilinear", "lanczos3", "lanczos5", "nearest")
# Layers of which Keras 3 makes something else without saying so.
_OTHERS = {"RandomCrop": "cuts in another place"}
MODELS = ("Functional", "Model", "Sequential")
Rule = Callable[[dict[str, Any]], None]


def in_keras_3(config: Any) -> dict[str, Any]:
    """A model's configuration, as Keras 2 wrote it, as Keras 3 reads it.

    Sequential models become functional ones. Regularizers, constraints and initializers, which
    are for training, are left out. What Keras 3 has not, such as calls of TensorFlow and Keras 2's
    `hard_sigmoid`, becomes operations of Keras while the model is built, see `STAND_INS`.

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


def name_in_keras_3(name: str) -> str:
    """A layer's name without the slashes that Keras 3 does not allow."""
    return name.replace("/", "_")


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
    known = getattr(keras.layers, _RENAMED_CLASSES.get(kind, kind), None)
    if known is None:
        # A class of the user's, or one that Keras will say it does not know.
        return layer | {"module": None, "registered_name": layer.get("registered_name") or kind}
    if kind in _OTHERS:
        raise ValueError(f"Received: a layer of class {kind}, which {_OTHERS[kind]} in Keras 3.")
    settings = _settings(kind, dict(layer["config"]), known)
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


def _settings(kind: str, settings: dict[str, Any], known: type) -> dict[str, Any]:
    """The settings of a layer of Keras, as Keras 3 calls them.

    Raises:
        ValueError: If one of them means something that Keras 3 cannot do.
    """
    if kind == "SyncBatchNormalization":
        settings["synchronized"] = True
    accepted = set(_parameters(known))
    translated = {}
    for name, value in settings.items():
        key = _RENAMED_SETTINGS.get((kind, name), name)
        if key.endswith(_FOR_TRAINING):
            continue
        if key in accepted:
            translated[key] = _setting(kind, key, value)
        elif known.__name__ == kind:
            _refuse_unless_gone(kind, key, value)
    return translated


def _parameters(known: type) -> Iterator[str]:
    """Names of what a class takes, with its parents' where it hands further ones to them."""
    for parent in known.__mro__:
        if "__init__" in vars(parent):
            parameters = inspect.signature(parent.__init__).parameters
            yield from parameters
            if "kwargs" not in parameters or parent is keras.layers.Layer:
                return


def _refuse_unless_gone(kind: str, name: str, value: Any) -> None:
    values = _GONE.get(name, ())
    if values is not None and value not in values:
        raise ValueError(
            f"Received: a layer of class {kind} with {name}={value!r}, which Keras 3 does not have."
        )


def _setting(kind: str, name: str, value: Any) -> Any:
    if name == "name":
        return name_in_keras_3(value)
    if name == "dtype" and isinstance(value, dict):
        return value["config"]["name"]
    if name.endswith("activation"):
        return _activation(kind, name, value)
    if name == "axis" and isinstance(value, list) and len(value) == 1:
        return value[0]
    if name == "interpolation" and value not in _INTERPOLATIONS:
        raise ValueError(
            f"Received: a layer of class {kind} with interpolation={value!r}. Keras 3 has "
            f"{', '.join(_INTERPOLATIONS)}."
        )
    if isinstance(value, dict) and "class_name" in value and "config" in value:
        return _inner(kind, _layer(value))
    return value


def _activation(kind: str, name: str, value: Any) -> Any:
    if isinstance(value, dict) and value.get("class_name") == "function":
        value = value["config"]
    if isinstance(value, dict):
        return _inner(kind, _layer(value))
    value = _RENAMED_ACTIVATIONS.get(value, value)
    if value == "hard_sigmoid" and name != "activation":
        raise _other_hard_sigmoid(kind)
    return value


def _inner(kind: str, layer: dict[str, Any]) -> dict[str, Any]:
    """A layer inside another; nothing can stand in its place."""
    if layer["class_name"] in STAND_INS:
        raise _other_hard_sigmoid(kind)
    return layer


def _other_hard_sigmoid(kind: str) -> ValueError:
    return ValueError(
        f"Received: a layer of class {kind} with hard_sigmoid inside, which is 0.2·x + 0.5 in "
        "Keras 2 and x/6 + 0.5 in Keras 3."
    )


class _StandIn(keras.Operation):
    """Stands in a configuration for operations of Keras, and is not in the model."""

    def make(self, *args: Any, **kwargs: Any) -> Any:
        """The result, by operations of Keras."""
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Leave the result where Keras looks for it when it builds a model."""
        result = self.make(*args, **kwargs)
        outputs = list(result) if isinstance(result, (list, tuple)) else [result]
        self._inbound_nodes.append(SimpleNamespace(output_tensors=outputs))
        return result


class HardSigmoid(_StandIn):
    """Keras 2's `hard_sigmoid`, `clip(0.2·x + 0.5, 0, 1)`, perhaps after a layer.

    Args:
        layer: That layer without its activation, as a configuration.
        name: Of what comes out.
    """

    def __init__(self, layer: dict[str, Any] | None, name: str) -> None:
        """See the class."""
        super().__init__(name=name)
        self._layer = keras.saving.deserialize_keras_object(layer) if layer else None

    def make(self, x: Any) -> Any:
        """See the class."""
        x = self._layer(x) if self._layer else x
        return ops.clip(ops.add(ops.multiply(x, 0.2), 0.5), 0.0, 1.0)


class TensorFlowCall(_StandIn):
    """A call of TensorFlow in a functional model.

    Args:
        function: Its public name without `tf.`, such as `"nn.relu"`.
        name: Of what comes out.
    """

    def __init__(self, function: str, name: str) -> None:
        """See the class."""
        super().__init__(name=name)
        self._make = operation_of(function)

    def make(self, *args: Any, **kwargs: Any) -> Any:
        """See the class."""
        result = self._make(*args, **kwargs)
        if isinstance(result, keras.KerasTensor) and not self._inbound_nodes:
            result._keras_history.operation.name = self.name
        return result


STAND_INS = {kind.__name__: kind for kind in (HardSigmoid, TensorFlowCall)}

"""Layers of Keras 2 and their settings, as Keras 3 calls them."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_amalgam.teachers.keras_files.keras_2_stand_ins import STAND_INS

Translate = Callable[[dict[str, Any]], dict[str, Any]]
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


def class_in_keras_3(kind: str) -> type | None:
    """The class of Keras 3 for a layer of Keras 2; `None` where it has none of that name.

    Raises:
        ValueError: If Keras 3 makes something else of it.
    """
    if kind in _OTHERS:
        raise ValueError(f"Received: a layer of class {kind}, which {_OTHERS[kind]} in Keras 3.")
    return getattr(keras.layers, _RENAMED_CLASSES.get(kind, kind), None)


def name_in_keras_3(name: str) -> str:
    """A layer's name without the slashes that Keras 3 does not allow."""
    return name.replace("/", "_")


def settings_in_keras_3(
    kind: str, settings: dict[str, Any], known: type, translate: Translate
) -> dict[str, Any]:
    """The settings of a layer of Keras, as Keras 3 calls them.

    Args:
        kind: Its class in Keras 2.
        settings: The layer's configuration as Keras 2 wrote it.
        known: Its class in Keras 3.
        translate: A configuration of a layer inside it to that of Keras 3.

    Raises:
        ValueError: If one of them means something that Keras 3 cannot do.
    """
    if kind == "SyncBatchNormalization":
        settings = settings | {"synchronized": True}
    accepted = set(_parameters(known))
    translated = {}
    for name, value in settings.items():
        key = _RENAMED_SETTINGS.get((kind, name), name)
        if key.endswith(_FOR_TRAINING):
            continue
        if key in accepted:
            translated[key] = _setting(kind, key, value, translate)
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


def _setting(kind: str, name: str, value: Any, translate: Translate) -> Any:
    if name == "name":
        return name_in_keras_3(value)
    if name == "dtype" and isinstance(value, dict):
        return value["config"]["name"]
    if name.endswith("activation"):
        return _activation(kind, name, value, translate)
    if name == "axis" and isinstance(value, list) and len(value) == 1:
        return value[0]
    if name == "interpolation" and value not in _INTERPOLATIONS:
        raise ValueError(
            f"Received: a layer of class {kind} with interpolation={value!r}. Keras 3 has "
            f"{', '.join(_INTERPOLATIONS)}."
        )
    if isinstance(value, dict) and "class_name" in value and "config" in value:
        return _inner(kind, translate(value))
    return value


def _activation(kind: str, name: str, value: Any, translate: Translate) -> Any:
    if isinstance(value, dict) and value.get("class_name") == "function":
        value = value["config"]
    if isinstance(value, dict):
        return _inner(kind, translate(value))
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

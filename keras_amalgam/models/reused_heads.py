"""Heads of a student that are the teachers' own, on features rebuilt in each teacher's form."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_amalgam.models.taps import rebuilt
from keras_amalgam.models.teacher import Teacher

_NOISY = re.compile(r"(Alpha|Gaussian|Spatial)?Dropout([123]D)?|GaussianNoise")
_NOISE = ("rate", "stddev")
# Of attention, recurrent and residual layers.
_NOISE_INSIDE = ("dropout", "recurrent_dropout", "drop_path_rate")


def reused_heads(x: Any, teachers: Sequence[Teacher], units: int | None) -> dict[str, Any]:
    """Every teacher's answer, by its own frozen head, from a student's features.

    The features pass layers that all teachers share and a decoder for each, all of stock layers:
    1×1 convolution, 3×3 convolution, both normalised, then 1×1 convolution to the teacher's
    channels; dense layers for vectors. Maps get the teacher's own size.

    Args:
        x: The student's features, `(batch, height, width, channels)` or `(batch, channels)`.
        teachers: Each with one tap, in front of a head that depends on it alone.
        units: Channels of the shared layers; by default as many as the student's features have, at
            most half of what the widest teacher's have.

    Returns:
        Answers by teacher.

    Raises:
        ValueError: If a teacher has no tap or several, or a network without layers; if its answer
            depends on more than its tap; if it has a map where the student has a vector; or if its
            head draws at random or normalises by the batch whatever it is told.
    """
    heads = {teacher.name: _frozen_head(teacher) for teacher in teachers}
    shapes = {name: tuple(head.input_shape[1:]) for name, head in heads.items()}
    _check_ranks(x, shapes)
    for name, head in heads.items():
        _check_settled(name, head)
    if len(x.shape) == 4 and all(len(shape) == 1 for shape in shapes.values()):
        x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    widest = max(shape[-1] for shape in shapes.values())
    units = units or min(x.shape[-1], max(1, widest // 2))
    common = _normalised(x, units, 1, "common_1")
    common = _normalised(common, units, 3, "common_2")
    taps = rebuilt(teachers)
    return {name: head(_decoded(common, shapes[name], taps[name])) for name, head in heads.items()}


def _frozen_head(teacher: Teacher) -> keras.Model:
    """A copy, so that freezing it leaves the teacher's own network as it is."""
    part = teacher.answering()
    copy = keras.models.clone_model(part, clone_function=_without_noise, recursive=True)
    head = keras.Model(copy.inputs[0], copy.outputs[0], name=teacher.name)
    head.set_weights(part.get_weights())
    head.trainable = False
    return head


def _without_noise(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A copy of a layer that drops nothing and adds no noise in training, either.

    Keras hands the mode of the student on to the head, whatever the head was called with.
    """
    return type(layer).from_config(_quieted(type(layer).__name__, layer.get_config()))


def _quieted(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A layer's settings without noise, and those of layers that it wraps."""
    noise = _NOISE if _NOISY.fullmatch(kind) else _NOISE_INSIDE
    quieted = {key: 0.0 if key in noise else value for key, value in config.items()}
    for key, value in quieted.items():
        if isinstance(value, Mapping) and isinstance(value.get("config"), Mapping):
            inside = _quieted(str(value.get("class_name")), value["config"])
            quieted[key] = {**value, "config": inside}
    return quieted


def _check_settled(name: str, head: keras.Model) -> None:
    """Refuse a head that answers otherwise in training: it would not be the teacher's own."""
    weights = head.get_weights()
    features = np.random.default_rng(0).normal(size=(2, *head.input_shape[1:])).astype("float32")
    settled, training = (np.asarray(head(features, training=mode)) for mode in (False, True))
    head.set_weights(weights)
    if not np.allclose(settled, training, rtol=1e-3, atol=1e-5, equal_nan=True):
        kinds = sorted({type(layer).__name__ for layer in head._flatten_layers()} - {"InputLayer"})
        raise ValueError(
            f"The head of teacher {name!r} cannot be reused, as it answers otherwise in training. "
            f"Received: layers of {kinds}, one of which draws at random or looks at the batch. "
            "Tap the teacher behind it, or take it out of the network."
        )


def _check_ranks(x: Any, shapes: Mapping[str, tuple[int | None, ...]]) -> None:
    for name, shape in shapes.items():
        if len(shape) > len(x.shape) - 1:
            raise ValueError(
                f"The head of teacher {name!r} reads a map, and the student's backbone ends in a "
                f"vector. Received: teacher features of shape {shape}, student features of shape "
                f"{tuple(x.shape[1:])}. Let the backbone end in its last map, or tap the teacher "
                "behind its pooling."
            )
        if None in shape or None in x.shape[1:]:
            raise ValueError(
                f"The maps must have known sizes for the head of teacher {name!r} to be reused. "
                f"Received: teacher features of shape {shape}, student features of shape "
                f"{tuple(x.shape[1:])}. Set `size` in the teacher's network and preprocessing, and "
                "build the backbone with a fixed input shape."
            )


def _normalised(x: Any, units: int, side: int, name: str) -> Any:
    x = _linear(x, units, side, name, use_bias=False)
    x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _decoded(common: Any, shape: tuple[int | None, ...], name: str) -> Any:
    """Features of a teacher's shape. Linear at the end, as nothing tells their range."""
    if len(shape) == 1 and len(common.shape) == 4:
        common = keras.layers.GlobalAveragePooling2D(name=f"{name}_pooled")(common)
    elif len(shape) == 3 and tuple(common.shape[1:3]) != shape[:2]:
        common = _resized(common, (shape[0], shape[1]), f"{name}_resized")
    # float32 also under mixed precision, for the head's sake.
    return _linear(common, shape[-1], 1, name, dtype="float32")


def _resized(x: Any, size: tuple[Any, Any], name: str) -> Any:
    """A map of another size: averaged where it is smaller by a whole factor, else interpolated."""
    height, width = x.shape[1:3]
    if height % size[0] == 0 and width % size[1] == 0:
        factors = (height // size[0], width // size[1])
        return keras.layers.AveragePooling2D(factors, name=name)(x)
    # float32, as XLA cannot differentiate it in half precision beside what is not.
    return keras.layers.Resizing(*size, interpolation="bilinear", name=name, dtype="float32")(x)


def _linear(x: Any, channels: int | None, side: int, name: str, **settings: Any) -> Any:
    if len(x.shape) == 4:
        return keras.layers.Conv2D(channels, side, padding="same", name=name, **settings)(x)
    return keras.layers.Dense(channels, name=name, **settings)(x)

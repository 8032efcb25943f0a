"""Which models XLA can compile."""

from collections.abc import Iterator
from typing import Any

import keras


def supports_jit(model: keras.Model) -> bool:
    """Whether TensorFlow has XLA kernels for all that a model does.

    Keras' own answer is by layer and knows nothing of operations, nor of what a layer's settings
    make of it: Keras' own resizing compiles only if it is nearest, or bilinear without
    antialiasing. That of `keras_amalgam.images.resizing` always does.

    Args:
        model: A functional or sequential model.
    """
    return all(_compiles(operation) for operation in _operations(model))


def _operations(model: keras.Model) -> Iterator[Any]:
    for operation in getattr(model, "operations", model.layers):
        yield operation
        if isinstance(operation, keras.Model):
            yield from _operations(operation)
        elif isinstance(operation, keras.layers.Layer):
            yield from operation._flatten_layers(include_self=False)


def _compiles(operation: Any) -> bool:
    interpolation = getattr(operation, "interpolation", "nearest")
    antialias = getattr(operation, "antialias", False)
    resizes = interpolation == "nearest" or (interpolation == "bilinear" and not antialias)
    return resizes and getattr(operation, "supports_jit", True)

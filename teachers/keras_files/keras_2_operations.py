"""Calls of TensorFlow in functional models of Keras 2, as operations of Keras 3."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

ELLIPSIS = "…"  # What stands for an ellipsis in a configuration.


def operation_of(function: str) -> Callable[..., Any]:
    """What computes in Keras as a function of TensorFlow does.

    Args:
        function: Its public name without `tf.`.

    Raises:
        ValueError: If it is not known.
    """
    if function not in _OPERATIONS:
        raise ValueError(
            f"Received: a call of tf.{function}, which has no counterpart in Keras 3 that is known."
        )
    return _OPERATIONS[function]


def _binary(compute: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Of two tensors, or of a tensor and a constant, perhaps one for each channel."""

    def call(x: Any, y: Any) -> Any:
        dtype = next(value.dtype for value in (x, y) if isinstance(value, keras.KerasTensor))
        x, y = (np.asarray(v, dtype) if isinstance(v, list) else v for v in (x, y))
        return compute(x, y)

    return call


def _reduction(reduce: Callable[..., Any]) -> Callable[..., Any]:
    return lambda input_tensor, axis=None, keepdims=False: reduce(
        input_tensor, axis=axis, keepdims=keepdims
    )


def _bias_add(value: Any, bias: Any, data_format: str | None = None) -> Any:
    if data_format is not None and data_format.startswith("NC"):
        bias = np.reshape(bias, (-1, *[1] * (value.ndim - 2))).tolist()
    return _binary(ops.add)(value, bias)


def _matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    a = ops.swapaxes(a, -1, -2) if transpose_a else a
    return ops.matmul(a, ops.swapaxes(b, -1, -2) if transpose_b else b)


def _resize(
    images: Any,
    size: Sequence[int],
    method: str = "bilinear",
    preserve_aspect_ratio: bool = False,
    antialias: bool = False,
) -> Any:
    if preserve_aspect_ratio or method not in ("bilinear", "nearest", "bicubic", "area"):
        raise ValueError(
            f"Received: a call of tf.image.resize with method={method!r} and "
            f"preserve_aspect_ratio={preserve_aspect_ratio}, which Keras 3 has not."
        )
    return ops.image.resize(images, tuple(size), interpolation=method, antialias=antialias)


def _pad(
    tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: float = 0, name: Any = None
) -> Any:
    mode = mode.lower()
    return ops.pad(tensor, paddings, mode, constant_values if mode == "constant" else None)


def _l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12) -> Any:
    squares = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return ops.multiply(x, ops.rsqrt(ops.maximum(squares, epsilon)))


def _depth_to_space(input: Any, block_size: int, data_format: str = "NHWC") -> Any:
    _refuse_channels_first("nn.depth_to_space", data_format)
    _, height, width, channels = input.shape
    size, fewer = block_size, channels // block_size**2
    x = ops.reshape(input, (-1, height, width, size, size, fewer))
    return ops.reshape(
        ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, height * size, width * size, fewer)
    )


def _refuse_channels_first(function: str, data_format: str) -> None:
    if data_format != "NHWC":
        raise ValueError(f"Received: tf.{function} with data_format={data_format!r}.")


def _slice(tensor: Any, slice_spec: Sequence[Any]) -> Any:
    parts = [
        Ellipsis
        if part == ELLIPSIS
        else slice(part["start"], part["stop"], part["step"])
        if isinstance(part, dict)
        else part
        for part in (slice_spec if isinstance(slice_spec, list) else [slice_spec])
    ]
    return tensor[tuple(parts)]


def _split(value: Any, num_or_size_splits: int | Sequence[int], axis: int = 0) -> Any:
    if isinstance(num_or_size_splits, int):
        return ops.split(value, num_or_size_splits, axis=axis)
    places = [sum(num_or_size_splits[: end + 1]) for end in range(len(num_or_size_splits) - 1)]
    return ops.split(value, places, axis=axis)


def _transpose(a: Any, perm: Any = None, conjugate: bool = False, name: Any = None) -> Any:
    return ops.transpose(a, perm)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "__operators__.add": _binary(ops.add),
    "__operators__.getitem": _slice,
    "cast": lambda x, dtype: ops.cast(x, dtype),
    "clip_by_value": lambda t, clip_value_min, clip_value_max: ops.clip(
        t, clip_value_min, clip_value_max
    ),
    "compat.v1.pad": _pad,
    "compat.v1.squeeze": lambda input, axis=None: ops.squeeze(input, axis),
    "compat.v1.transpose": _transpose,
    "concat": lambda values, axis: ops.concatenate(values, axis=axis),
    "expand_dims": lambda input, axis: ops.expand_dims(input, axis),
    "identity": lambda input: input,
    "image.resize": _resize,
    "linalg.matmul": _matmul,
    "math.abs": lambda x: ops.abs(x),
    "math.add": _binary(ops.add),
    "math.argmax": lambda input, axis=0: ops.argmax(input, axis=axis),
    "math.divide": _binary(ops.divide),
    "math.exp": lambda x: ops.exp(x),
    "math.greater": _binary(ops.greater),
    "math.greater_equal": _binary(ops.greater_equal),
    "math.l2_normalize": _l2_normalize,
    "math.less": _binary(ops.less),
    "math.less_equal": _binary(ops.less_equal),
    "math.log": lambda x: ops.log(x),
    "math.maximum": _binary(ops.maximum),
    "math.minimum": _binary(ops.minimum),
    "math.multiply": _binary(ops.multiply),
    "math.negative": lambda x: ops.negative(x),
    "math.pow": _binary(ops.power),
    "math.reduce_max": _reduction(ops.max),
    "math.reduce_mean": _reduction(ops.mean),
    "math.reduce_min": _reduction(ops.min),
    "math.reduce_sum": _reduction(ops.sum),
    "math.rsqrt": lambda x: ops.rsqrt(x),
    "math.sigmoid": lambda x: ops.sigmoid(x),
    "math.softplus": lambda features: ops.softplus(features),
    "math.sqrt": lambda x: ops.sqrt(x),
    "math.square": lambda x: ops.square(x),
    "math.subtract": _binary(ops.subtract),
    "math.tanh": lambda x: ops.tanh(x),
    "math.truediv": _binary(ops.divide),
    "nn.bias_add": _bias_add,
    "nn.depth_to_space": _depth_to_space,
    "nn.elu": lambda features: ops.elu(features),
    "nn.gelu": lambda features, approximate=False: ops.gelu(features, approximate=approximate),
    "nn.leaky_relu": lambda features, alpha=0.2: ops.leaky_relu(features, negative_slope=alpha),
    "nn.relu": lambda features: ops.relu(features),
    "nn.relu6": lambda features: ops.relu6(features),
    "nn.silu": lambda features: ops.silu(features),
    "nn.softmax": lambda logits, axis=-1: ops.softmax(logits, axis=axis),
    "reshape": lambda tensor, shape: ops.reshape(tensor, tuple(shape)),
    "split": _split,
    "stack": lambda values, axis=0: ops.stack(values, axis=axis),
}

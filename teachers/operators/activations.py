"""Functions of one tensor, element by element, and softmax."""

import math
from typing import Any

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.layout import Value, aligned_constant
from keras_amalgam.teachers.operators.call import Call
from keras_amalgam.teachers.operators.registry import operator


def _layer(call: Call, layer: Any, **config: Any) -> Value:
    value = call.value()
    return value.with_tensor(call.write.layer(layer, value.tensor, **config))


def _operation(call: Call, function: Any, *args: Any, **kwargs: Any) -> Value:
    value = call.value()
    return value.with_tensor(call.write.operation(function, value.tensor, *args, **kwargs))


def _register_plain(name: str, since: int, activation: str) -> None:
    """An operator that one of Keras' named activations is, whatever its parameters."""

    def handler(call: Call) -> Value:
        return _layer(call, layers.Activation, activation=activation)

    handler.__doc__ = f"Activation({activation!r})."
    operator(name, since)(handler)


def _register_operation(name: str, since: int, function: Any) -> None:
    """An operator that one function of `keras.ops` is."""

    def handler(call: Call) -> Value:
        return _operation(call, function)

    handler.__doc__ = f"ops.{function.__name__}."
    operator(name, since)(handler)


for _name, _since, _activation in (
    ("Sigmoid", 1, "sigmoid"),
    ("Tanh", 1, "tanh"),
    ("Softplus", 1, "softplus"),
    ("Softsign", 1, "softsign"),
    ("HardSwish", 14, "hard_silu"),
    ("Mish", 18, "mish"),
):
    _register_plain(_name, _since, _activation)

for _name, _since, _function in (
    ("Abs", 1, ops.absolute),
    ("Erf", 9, ops.erf),
    ("Exp", 1, ops.exp),
    ("Log", 1, ops.log),
    ("Neg", 1, ops.negative),
    ("Reciprocal", 1, ops.reciprocal),
    ("Sqrt", 1, ops.sqrt),
):
    _register_operation(_name, _since, _function)


@operator("Relu", since=1)
def relu(call: Call) -> Value:
    """ReLU."""
    return _layer(call, layers.ReLU)


@operator("LeakyRelu", since=1)
def leaky_relu(call: Call) -> Value:
    """LeakyReLU."""
    return _layer(call, layers.LeakyReLU, negative_slope=call.attribute("alpha", 0.01))


@operator("PRelu", since=1)
def prelu(call: Call) -> Value:
    """PReLU with one trainable slope per channel."""
    value = call.value()
    slope = np.asarray(aligned_constant(call.constant(1), value))
    channels = value.axis(1)
    sizes = [1] * (value.rank - 1)
    sizes[channels - 1] = value.tensor.shape[channels]
    if slope.size not in (1, sizes[channels - 1]):
        raise call.refusal(f"its slope of shape {slope.shape} is not one per channel")
    shared = [axis for axis in range(1, value.rank) if axis != channels]
    weights = [np.broadcast_to(slope.reshape(-1), (sizes[channels - 1],)).reshape(sizes)]
    tensor = call.write.layer(
        layers.PReLU, value.tensor, weights=weights, shared_axes=shared or None
    )
    return value.with_tensor(tensor)


@operator("Elu", since=1)
def elu(call: Call) -> Value:
    """ELU."""
    return _layer(call, layers.ELU, alpha=call.attribute("alpha", 1.0))


@operator("HardSigmoid", since=1)
def hard_sigmoid(call: Call) -> Value:
    """Activation('hard_sigmoid') for PyTorch's slope of 1/6, else a clipped line."""
    slope, offset = call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    if math.isclose(slope, 1 / 6, rel_tol=1e-5) and offset == 0.5:
        return _layer(call, layers.Activation, activation="hard_sigmoid")
    value = call.value()
    line = call.write.operation(ops.multiply, value.tensor, slope, part="slope")
    line = call.write.operation(ops.add, line, offset, part="offset")
    return value.with_tensor(call.write.operation(ops.clip, line, 0.0, 1.0))


@operator("Gelu", since=20)
def gelu(call: Call) -> Value:
    """Activation('gelu'), or ops.gelu for the tanh form; composed forms are recognised."""
    if call.attribute("approximate", "none") == "tanh":
        return _operation(call, ops.gelu, approximate=True)
    return _layer(call, layers.Activation, activation="gelu")


@operator("Clip", since=6)
def clip(call: Call) -> Value:
    """ReLU with a maximum where the minimum is 0, else ops.clip."""
    return _clip(call, call.attribute("min", -math.inf), call.attribute("max", math.inf))


@operator("Clip", since=11)
def clip_by_inputs(call: Call) -> Value:
    """ReLU with a maximum where the minimum is 0, else ops.clip."""
    lowest, highest = call.constant(1), call.constant(2)
    return _clip(
        call,
        -math.inf if lowest is None else float(lowest.reshape(())),
        math.inf if highest is None else float(highest.reshape(())),
    )


def _clip(call: Call, lowest: float, highest: float) -> Value:
    largest = float(np.finfo(np.float32).max)  # What exporters write for "no bound".
    if lowest == 0.0 and highest > 0.0:
        return _layer(call, layers.ReLU, max_value=highest if highest < largest else None)
    return _operation(call, ops.clip, max(lowest, -largest), min(highest, largest))


@operator("Softmax", since=1)
def softmax_over_the_rest(call: Call) -> Value:
    """Softmax over one axis; before opset 13 over all axes from it on."""
    return _layer(call, layers.Softmax, axis=_axes_of_the_rest(call))


@operator("Softmax", since=13)
def softmax(call: Call) -> Value:
    """Softmax over one axis; before opset 13 over all axes from it on."""
    return _layer(call, layers.Softmax, axis=call.value().axis(call.attribute("axis", -1)))


@operator("LogSoftmax", since=1)
def log_softmax_over_the_rest(call: Call) -> Value:
    """ops.subtract of ops.logsumexp."""
    value = call.value()
    axes = _axes_of_the_rest(call)
    total = call.write.operation(
        ops.logsumexp, value.tensor, axis=axes, keepdims=True, part="total"
    )
    return _operation(call, ops.subtract, total)


@operator("LogSoftmax", since=13)
def log_softmax(call: Call) -> Value:
    """ops.log_softmax over one axis; before opset 13 over all axes from it on."""
    return _operation(call, ops.log_softmax, axis=call.value().axis(call.attribute("axis", -1)))


def _axes_of_the_rest(call: Call) -> int | tuple[int, ...]:
    """Keras axes of the matrix that older opsets flatten a tensor to, size-1 axes left out."""
    value = call.value()
    first = call.attribute("axis", 1) % value.rank
    axes = [value.axis(axis) for axis in range(first, value.rank) if value.sizes[axis] != 1]
    return tuple(sorted(axes)) if len(axes) > 1 else (*axes, value.axis(first))[0]

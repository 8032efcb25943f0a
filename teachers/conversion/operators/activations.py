"""Activations: functions of one tensor, element by element, that networks choose from."""

import math
from typing import Any

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.conversion.layout import Value, aligned_constant
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import register_operator

# SELU's own numbers, as the standard writes them.
_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


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
    register_operator(name, since)(handler)


for _name, _since, _activation in (
    ("Sigmoid", 1, "sigmoid"),
    ("Tanh", 1, "tanh"),
    ("Softplus", 1, "softplus"),
    ("Softsign", 1, "softsign"),
    ("HardSwish", 14, "hard_silu"),
    ("Mish", 18, "mish"),
):
    _register_plain(_name, _since, _activation)


@register_operator("Relu", since=1)
def relu(call: Call) -> Value:
    """ReLU."""
    return _layer(call, layers.ReLU)


@register_operator("LeakyRelu", since=1)
def leaky_relu(call: Call) -> Value:
    """LeakyReLU; ops.leaky_relu for a negative slope."""
    slope = call.attribute("alpha", 0.01)
    if slope < 0:
        return _operation(call, ops.leaky_relu, negative_slope=slope)
    return _layer(call, layers.LeakyReLU, negative_slope=slope)


@register_operator("PRelu", since=1)
def prelu(call: Call) -> Value:
    """PReLU with trainable slopes, one per channel or as the source shares them."""
    value = call.value()
    sizes = value.tensor.shape[1:]
    slope = aligned_constant(call.constant(1), value)
    if isinstance(slope, float):  # Networks learn one slope per channel.
        channels = value.axis(1) - 1
        shape = [n if axis == channels else 1 for axis, n in enumerate(sizes)]
        slope = np.full((1, *shape), slope)
    slope = slope[0]
    if any(n not in (1, size) for n, size in zip(slope.shape, sizes, strict=True)):
        raise call.refusal(f"its slope of shape {call.constant(1).shape} does not fit its input")
    shared = [axis for axis, n in enumerate(slope.shape, 1) if n == 1]
    tensor = call.write.layer(
        layers.PReLU, value.tensor, weights=[slope], shared_axes=shared or None
    )
    return value.with_tensor(tensor)


@register_operator("Elu", since=1)
def elu(call: Call) -> Value:
    """ELU."""
    return _layer(call, layers.ELU, alpha=call.attribute("alpha", 1.0))


@register_operator("Selu", since=1)
def selu(call: Call) -> Value:
    """Activation('selu'); ELU and ops.multiply for other numbers than its own."""
    alpha, gamma = call.attribute("alpha", _SELU_ALPHA), call.attribute("gamma", _SELU_GAMMA)
    if np.allclose((alpha, gamma), (_SELU_ALPHA, _SELU_GAMMA), rtol=1e-6):
        return _layer(call, layers.Activation, activation="selu")
    value = call.value()
    bent = call.write.layer(layers.ELU, value.tensor, "elu", alpha=alpha)
    return value.with_tensor(call.write.operation(ops.multiply, bent, gamma))


@register_operator("Celu", since=12)
def celu(call: Call) -> Value:
    """ops.celu."""
    return _operation(call, ops.celu, alpha=call.attribute("alpha", 1.0))


@register_operator("ThresholdedRelu", since=10)
def thresholded_relu(call: Call) -> Value:
    """ops.threshold."""
    return _operation(call, ops.threshold, call.attribute("alpha", 1.0), 0.0)


@register_operator("Shrink", since=9)
def shrink(call: Call) -> Value:
    """ops.soft_shrink where the bias is the threshold, else ops.hard_shrink less the bias."""
    threshold, bias = call.attribute("lambd", 0.5), call.attribute("bias", 0.0)
    if threshold < 0:
        raise call.refusal(f"a negative threshold (lambd={threshold}) is not known")
    if bias == threshold:
        return _operation(call, ops.soft_shrink, threshold=threshold)
    if bias == 0:
        return _operation(call, ops.hard_shrink, threshold=threshold)
    value = call.value()
    kept = call.write.operation(ops.hard_shrink, value.tensor, threshold=threshold, part="kept")
    sign = call.write.operation(ops.sign, kept, part="sign")
    step = call.write.operation(ops.multiply, sign, bias, part="bias")
    return value.with_tensor(call.write.operation(ops.subtract, kept, step))


@register_operator("Swish", since=24)
def swish(call: Call) -> Value:
    """Activation('silu'); with an alpha ops.sigmoid of the multiple, times the tensor."""
    return _swish(call, call.attribute("alpha", 1.0))


@register_operator("QuickGelu", since=1, domain="com.microsoft")
def quick_gelu(call: Call) -> Value:
    """ops.sigmoid of a multiple, times the tensor."""
    return _swish(call, call.attribute("alpha", 1.702))


def _swish(call: Call, alpha: float) -> Value:
    if alpha == 1:
        return _layer(call, layers.Activation, activation="silu")
    value = call.value()
    multiple = call.write.operation(ops.multiply, value.tensor, alpha, part="alpha")
    gate = call.write.operation(ops.sigmoid, multiple, part="sigmoid")
    return value.with_tensor(call.write.operation(ops.multiply, value.tensor, gate))


@register_operator("HardSigmoid", since=1)
def hard_sigmoid(call: Call) -> Value:
    """Activation('hard_sigmoid') for PyTorch's slope of 1/6, else a clipped line."""
    slope, offset = call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    if math.isclose(slope, 1 / 6, rel_tol=1e-5) and offset == 0.5:
        return _layer(call, layers.Activation, activation="hard_sigmoid")
    value = call.value()
    line = call.write.operation(ops.multiply, value.tensor, slope, part="slope")
    line = call.write.sum(line, offset, "offset")
    return value.with_tensor(call.write.operation(ops.clip, line, 0.0, 1.0))


@register_operator("Gelu", since=20)
def gelu(call: Call) -> Value:
    """Activation('gelu'), or ops.gelu for the tanh form; composed forms are recognised."""
    if call.attribute("approximate", "none") == "tanh":
        return _operation(call, ops.gelu, approximate=True)
    return _layer(call, layers.Activation, activation="gelu")


@register_operator("Gelu", since=1, domain="com.microsoft")
def microsoft_gelu(call: Call) -> Value:
    """Activation('gelu')."""
    return _layer(call, layers.Activation, activation="gelu")


@register_operator("BiasGelu", since=1, domain="com.microsoft")
def bias_gelu(call: Call) -> Value:
    """Activation('gelu') of ops.add."""
    biased = _biased(call)
    return biased.with_tensor(call.write.layer(layers.Activation, biased.tensor, activation="gelu"))


@register_operator("FastGelu", since=1, domain="com.microsoft")
def fast_gelu(call: Call) -> Value:
    """ops.gelu in its tanh form, of ops.add with a bias."""
    biased = _biased(call)
    return biased.with_tensor(call.write.operation(ops.gelu, biased.tensor, approximate=True))


def _biased(call: Call) -> Value:
    value = call.value()
    if not call.has(1):
        return value
    bias = call.operand(1, value)
    return value.with_tensor(call.write.sum(value.tensor, bias, "bias"))


@register_operator("Clip", since=6)
def clip(call: Call) -> Value:
    """ReLU with a maximum where the minimum is 0, else ops.clip."""
    return _clip(call, call.attribute("min", -math.inf), call.attribute("max", math.inf))


@register_operator("Clip", since=11)
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

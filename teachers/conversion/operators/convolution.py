"""Convolutions."""

import math
from typing import Any

import numpy as np
from keras import layers

from keras_amalgam.teachers.conversion.layout import Value
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import register_operator
from keras_amalgam.teachers.conversion.operators.windows import (
    Steps,
    Window,
    channels,
    maps,
    require_pads,
    subsampled,
    window,
    zero_padded,
)

_DENSE = (layers.Conv1D, layers.Conv2D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)


@register_operator("Conv", since=1)
def conv(call: Call) -> Value:
    """Conv2D or DepthwiseConv2D, 1D alike; several groups are one layer each."""
    value = maps(call)
    kernel = call.constant(1)
    geometry = window(call, kernel.shape[2:], value.tensor)
    groups = call.attribute("group", 1)
    return value.with_tensor(
        convolved(call, value.tensor, geometry, kernel, call.constant(2), groups)
    )


def convolved(
    call: Call,
    tensor: Any,
    geometry: Window,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    groups: int,
) -> Any:
    """A convolution of maps.

    Keras knows no strides together with dilations, and for depthwise kernels no two strides. What
    strides and dilations have in common is taken out by leaving pixels out before, and what is left
    by leaving results out behind.

    Args:
        call: The node.
        tensor: Maps, channels last.
        geometry: Where the windows are.
        kernel: `(filters, channels per group, *window)`.
        bias: `(filters,)`, if there is one.
        groups: Number of groups of channels.

    Returns:
        Maps of as many channels as there are filters.

    Raises:
        ValueError: If the kernel does not fit the channels.
    """
    if kernel.shape[1] * groups != tensor.shape[-1] or kernel.shape[0] % groups:
        raise ValueError(
            f"a kernel of shape {kernel.shape} in {groups} groups does not fit {tensor.shape[-1]} "
            "channels"
        )
    is_depthwise = groups == tensor.shape[-1] > 1
    before, run, behind, dilations = _steps(geometry, is_depthwise)
    padding = geometry.padding
    if max(*before, *behind) > 1 and padding == "same":
        require_pads(call, geometry)
        padding = "explicit"
    if padding == "explicit":
        tensor = zero_padded(call, tensor, geometry.pads)
    tensor = subsampled(call, tensor, before, "sampled")
    config = {
        "kernel_size": geometry.kernel,
        "strides": run,
        "dilation_rate": dilations,
        "padding": "same" if padding == "same" else "valid",
    }
    write = _depthwise if is_depthwise else _dense if groups == 1 else _grouped
    part = "" if max(behind) == 1 else "conv"
    tensor = write(call, tensor, part, (kernel, bias, groups), config)
    return subsampled(call, tensor, behind, part="")


def _steps(geometry: Window, is_depthwise: bool) -> tuple[Steps, Steps, Steps, Steps]:
    """Steps before, in and behind the layer, and its dilations."""
    pairs = list(zip(geometry.strides, geometry.dilations, strict=True))
    before = tuple(math.gcd(*pair) if max(pair) > 1 else 1 for pair in pairs)
    dilations = tuple(d // step for (_, d), step in zip(pairs, before, strict=True))
    strides = tuple(s // step for (s, _), step in zip(pairs, before, strict=True))
    run = strides
    if max(strides) > 1 and max(dilations) > 1:
        run = (1,) * len(strides)
    elif is_depthwise:  # TensorFlow's depthwise kernel has one stride for both axes.
        run = (math.gcd(*strides),) * len(strides)
    behind = tuple(s // step for s, step in zip(strides, run, strict=True))
    return before, run, behind, dilations


_Weights = tuple[np.ndarray, np.ndarray | None, int]


def _dense(call: Call, tensor: Any, part: str, weights: _Weights, config: dict[str, Any]) -> Any:
    kernel, bias, _ = weights
    held = [np.moveaxis(kernel, (0, 1), (-1, -2)), *([] if bias is None else [bias])]
    config = config | {"filters": kernel.shape[0], "use_bias": bias is not None}
    return call.write.layer(_DENSE[kernel.ndim - 3], tensor, part, held, **config)


def _depthwise(
    call: Call, tensor: Any, part: str, weights: _Weights, config: dict[str, Any]
) -> Any:
    kernel, bias, groups = weights
    multiplier = kernel.shape[0] // groups
    by_channel = kernel.reshape(groups, multiplier, *kernel.shape[2:])
    held = [np.moveaxis(by_channel, (0, 1), (-2, -1)), *([] if bias is None else [bias])]
    config = config | {"depth_multiplier": multiplier, "use_bias": bias is not None}
    return call.write.layer(_DEPTHWISE[kernel.ndim - 3], tensor, part, held, **config)


def _grouped(call: Call, tensor: Any, part: str, weights: _Weights, config: dict[str, Any]) -> Any:
    """One convolution per group.

    Keras' own grouped convolution compiles by XLA on a CPU: measured on 128 channels of 28×28
    pixels in 2, 8 and 32 groups (benchmarks/conversion.py), its result takes 1.5, 2.7 and 3.6
    times as long as this form's, and with its gradient 21, 113 and 178 times.
    """
    kernel, bias, groups = weights
    width, filters = kernel.shape[1], kernel.shape[0] // groups
    results = []
    for group in range(groups):
        few = call.write.operation(channels, tensor, group * width, width, part=f"split_{group}")
        chosen = slice(group * filters, (group + 1) * filters)
        held = (kernel[chosen], None if bias is None else bias[chosen], 1)
        results.append(_dense(call, few, f"group_{group}", held, config))
    return call.write.layer(layers.Concatenate, results, part)

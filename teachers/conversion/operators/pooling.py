"""Poolings and means over the image."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.conversion.layout import Value
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import register_operator
from keras_amalgam.teachers.conversion.operators.windows import (
    Pads,
    Window,
    channels,
    cropped,
    maps,
    require_pads,
    subsampled,
    window,
    zero_padded,
)
from keras_amalgam.teachers.onnx_files.graph import Graph, Node

_MAX = (layers.MaxPooling1D, layers.MaxPooling2D)
_AVERAGE = (layers.AveragePooling1D, layers.AveragePooling2D)
_MERGED = {_MAX: layers.Maximum, _AVERAGE: layers.Average}
_LOWEST = float(np.finfo(np.float32).min)
_MOST_COPIES = 64
_MOST_REPETITIONS = 8

_MAKES_NONNEGATIVE = {
    "Abs", "Exp", "GlobalLpPool", "HardSigmoid", "LpPool", "Relu", "Sigmoid", "Softmax", "Softplus",
}  # fmt: skip
_KEEPS_NONNEGATIVE = {
    "AveragePool", "Concat", "DepthToSpace", "Dropout", "Flatten", "GlobalAveragePool",
    "GlobalMaxPool", "Identity", "MaxPool", "Pad", "Reshape", "SpaceToDepth", "Transpose",
}  # fmt: skip


@register_operator("MaxPool", since=1)
def max_pool(call: Call) -> Value:
    """MaxPooling2D (1D); borders repeated or zeros in front, which leave the maximum alone."""
    if any(_is_read(call.graph, name) for name in call.node.outputs[1:]):
        raise call.refusal("its second output (indices) is not known")
    value = maps(call)
    tensor = value.tensor
    geometry = window(call, call.attribute("kernel_shape"), tensor)
    is_same = geometry.padding == "same" and max(geometry.dilations) == 1
    if not is_same:
        if is_nonnegative(call.graph, call.node.inputs[0]):
            tensor = zero_padded(call, tensor, geometry.pads)
        else:
            tensor = _neutrally_padded(call, tensor, geometry)
    return value.with_tensor(_pool(call, _MAX, tensor, geometry, is_same))


@register_operator("AveragePool", since=1)
def average_pool(call: Call) -> Value:
    """AveragePooling2D (1D), its border corrected where the source counts other pixels."""
    value = maps(call)
    geometry = window(call, call.attribute("kernel_shape"), value.tensor)
    counts_pads = bool(call.attribute("count_include_pad", 0)) and geometry.has_counted_pads
    if geometry.sees_everything and not counts_pads:
        return _global(call, (layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D))
    is_same = geometry.padding == "same" and max(geometry.dilations) == 1
    if is_same and not counts_pads:
        return value.with_tensor(_pool(call, _AVERAGE, value.tensor, geometry, True))
    require_pads(call, geometry)
    tensor = zero_padded(call, value.tensor, geometry.pads)
    counted = geometry.counted_pads if counts_pads else geometry.without_pads().pads
    if counted == geometry.pads:
        return value.with_tensor(_pool(call, _AVERAGE, tensor, geometry, False))
    pooled = _pool(call, _AVERAGE, tensor, geometry, False, part="pool")
    if None in geometry.sizes:
        share = _counted_share(call, value.tensor, geometry, counted)
        return value.with_tensor(call.write.operation(ops.divide, pooled, share))
    correction = _count_correction(geometry, counted)
    return value.with_tensor(call.write.operation(ops.multiply, pooled, correction))


@register_operator("LpPool", since=2)
def lp_pool(call: Call) -> Value:
    """AveragePooling2D (1D) between a power and a root."""
    value = maps(call)
    geometry = window(call, call.attribute("kernel_shape"), value.tensor)
    require_pads(call, geometry)
    tensor = zero_padded(call, value.tensor, geometry.pads)
    tensor = _power(call, tensor)
    tensor = _pool(call, _AVERAGE, tensor, geometry, False, part="pool")
    area = float(math.prod(geometry.kernel))
    total = call.write.operation(ops.multiply, tensor, area, part="sum")
    return value.with_tensor(_root(call, total))


@register_operator("GlobalAveragePool", since=1)
def global_average_pool(call: Call) -> Value:
    """GlobalAveragePooling2D (1D)."""
    return _global(call, (layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D))


@register_operator("GlobalMaxPool", since=1)
def global_max_pool(call: Call) -> Value:
    """GlobalMaxPooling2D (1D)."""
    return _global(call, (layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D))


@register_operator("GlobalLpPool", since=2)
def global_lp_pool(call: Call) -> Value:
    """ops.sum between a power and a root."""
    value = maps(call)
    axes = tuple(range(1, value.rank - 1))
    total = call.write.operation(
        ops.sum, _power(call, value.tensor), axis=axes, keepdims=True, part="sum"
    )
    return value.with_tensor(_root(call, total))


def is_nonnegative(graph: Graph, tensor: str) -> bool:
    """Whether the operators that make a tensor cannot make a negative number."""
    pending, seen = [tensor], set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        node = graph.producers.get(name)
        if node is None:
            return False
        if node.operator in _KEEPS_NONNEGATIVE and not _pads_with_other_than_zero(graph, name):
            pending.extend(node.inputs if node.operator == "Concat" else node.inputs[:1])
        elif node.operator == "Clip":
            if _lower_bound(graph, node) < 0:
                return False
        elif node.operator not in _MAKES_NONNEGATIVE:
            return False
    return True


def _lower_bound(graph: Graph, clip: Node) -> float:
    if len(clip.inputs) > 1 and clip.inputs[1]:
        bound = graph.scalar(clip.inputs[1])
        return -math.inf if bound is None else bound
    return clip.attributes.get("min", -math.inf)


def _pads_with_other_than_zero(graph: Graph, tensor: str) -> bool:
    node = graph.producers[tensor]
    value = graph.scalar(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else 0.0
    return node.operator == "Pad" and (value != 0.0 or node.attributes.get("value", 0.0) != 0.0)


def _is_read(graph: Graph, name: str) -> bool:
    is_output = any(port.name == name for port in graph.outputs)
    return bool(name) and (is_output or name in graph.consumers)


def _pool(
    call: Call, kind: Any, tensor: Any, geometry: Window, is_same: bool, part: str = ""
) -> Any:
    """A pooling of a map that has its padding."""
    if max(geometry.dilations) > 1:
        return _dilated(call, kind, tensor, geometry, part)
    return call.write.layer(
        kind[len(geometry.kernel) - 1],
        tensor,
        part,
        pool_size=geometry.kernel,
        strides=geometry.strides,
        padding="same" if is_same else "valid",
    )


def _dilated(call: Call, kind: Any, tensor: Any, geometry: Window, part: str) -> Any:
    """Shifted copies merged, one axis after the other: Keras' poolings have no dilation."""
    if max(geometry.kernel) > _MOST_COPIES:
        raise call.refusal(f"a dilated window of {geometry.kernel} pixels is not known")
    axes = range(len(geometry.kernel))
    wide = [axis for axis in axes if geometry.kernel[axis] > 1]
    for axis in wide:
        last = geometry.extent[axis] - 1
        shifts = range(0, last + 1, geometry.dilations[axis])
        crops = [
            tuple((shift, last - shift) if other == axis else (0, 0) for other in axes)
            for shift in shifts
        ]
        copies = [cropped(call, tensor, crop) for crop in crops]
        is_last = axis == wide[-1] and max(geometry.strides) == 1
        tensor = call.write.layer(_MERGED[kind], copies, part if is_last else "window")
    return subsampled(call, tensor, geometry.strides, part)


def _neutrally_padded(call: Call, tensor: Any, geometry: Window) -> Any:
    """The map with a border that no maximum over a window notices.

    Every dense window reaches into the map, so a repeated border pixel is in it already: the
    maximum stays what it is with infinitely small padding, and an int8 export keeps its range. A
    dilated window may step over the border pixel and gets the smallest number, as wide borders do.
    """
    pads = tuple((int(before), int(behind)) for before, behind in geometry.pads)
    if max(geometry.dilations) > 1 or max(map(max, pads)) > _MOST_REPETITIONS:
        width = ((0, 0), *pads, (0, 0))
        return call.write.operation(ops.pad, tensor, width, constant_values=_LOWEST, part="pad")
    while max(map(max, pads)) > 0:
        step = tuple((min(before, 1), min(behind, 1)) for before, behind in pads)
        width = ((0, 0), *step, (0, 0))  # Reflecting one pixel, border included, repeats it.
        tensor = call.write.operation(ops.pad, tensor, width, mode="symmetric", part="pad")
        rest = zip(pads, step, strict=True)
        pads = tuple((before - a, behind - b) for (before, behind), (a, b) in rest)
    return tensor


def _count_correction(geometry: Window, counted: Pads) -> np.ndarray:
    """Kernel area over pixels that the source counts, `(1, height, width, 1)`."""
    factors = np.ones((1,), np.float64)
    for axis, (before, behind) in enumerate(counted):
        size = geometry.sizes[axis] or 0
        starts = np.arange(geometry.outputs[axis]) * geometry.strides[axis]
        steps = np.arange(geometry.kernel[axis]) * geometry.dilations[axis]
        pixels = starts[:, None] + steps - geometry.pads[axis][0]
        counts = ((pixels >= -before) & (pixels < size + behind)).sum(axis=1)
        factors = np.multiply.outer(factors, geometry.kernel[axis] / np.maximum(counts, 1))
    return factors[..., None].astype(np.float32)


def _counted_share(call: Call, tensor: Any, geometry: Window, counted: Pads) -> Any:
    """The share of each window that the source counts, measured on the map's own open size."""
    channel = call.write.operation(channels, tensor, 0, 1, part="channel")
    ones = call.write.operation(ops.ones_like, channel, part="ones")
    width = ((0, 0), *counted, (0, 0))
    ones = call.write.operation(ops.pad, ones, width, constant_values=1.0, part="counted")
    pairs = zip(geometry.pads, counted, strict=True)
    rest = tuple((a - c, b - d) for (a, b), (c, d) in pairs)
    ones = zero_padded(call, ones, rest, part="uncounted")
    return _pool(call, _AVERAGE, ones, geometry, False, part="share")


def _power(call: Call, tensor: Any) -> Any:
    exponent = call.attribute("p", 2)
    if exponent == 2:
        return call.write.operation(ops.square, tensor, part="square")
    tensor = call.write.operation(ops.absolute, tensor, part="abs")
    return call.write.operation(ops.power, tensor, float(exponent), part="power")


def _root(call: Call, tensor: Any) -> Any:
    exponent = call.attribute("p", 2)
    if exponent == 2:
        return call.write.operation(ops.sqrt, tensor)
    return call.write.operation(ops.power, tensor, 1.0 / exponent)


def _global(call: Call, kinds: Sequence[Any]) -> Value:
    value = maps(call)
    return value.with_tensor(call.write.layer(kinds[value.rank - 3], value.tensor, keepdims=True))

"""Poolings and means over the image."""

import math
from typing import Any

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.layout import Value
from keras_amalgam.teachers.onnx_graph import Graph, Node
from keras_amalgam.teachers.operators.call import Call
from keras_amalgam.teachers.operators.registry import operator
from keras_amalgam.teachers.operators.windows import Pads, Window, window, zero_padded

_MAKES_NONNEGATIVE = {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Softplus", "Exp", "Abs"}
_KEEPS_NONNEGATIVE = {
    "AveragePool", "Concat", "Dropout", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "Identity",
    "MaxPool", "Pad", "Reshape", "Transpose",
}  # fmt: skip


@operator("MaxPool", since=1)
def max_pool(call: Call) -> Value:
    """MaxPooling2D; borders repeated or zeros in front, whichever leaves the maximum alone."""
    if len(call.node.outputs) > 1:
        raise call.refusal("its second output (indices) is not known")
    images = call.images()
    geometry = window(call, call.attribute("kernel_shape"), images)
    if max(geometry.dilations) > 1:
        raise call.refusal("dilations above 1 are not known")
    padding = geometry.padding
    if padding == "explicit":
        if is_nonnegative(call.graph, call.node.inputs[0]):
            images = zero_padded(call, images, geometry.pads)
        else:
            images = _edge_padded(call, images, geometry.pads)
    return call.maps(_pool(call, layers.MaxPooling2D, images, geometry, padding == "same"))


@operator("AveragePool", since=1)
def average_pool(call: Call) -> Value:
    """AveragePooling2D, its border corrected where the source counts other pixels."""
    images = call.images()
    geometry = window(call, call.attribute("kernel_shape"), images)
    if max(geometry.dilations) > 1:
        raise call.refusal("dilations above 1 are not known")
    counts_pads = bool(call.attribute("count_include_pad", 0))
    padding = geometry.padding
    if padding == "valid" or (padding == "same" and not counts_pads):
        same = padding == "same"
        return call.maps(_pool(call, layers.AveragePooling2D, images, geometry, same))
    correction = _count_correction(call, geometry, counts_pads)
    images = zero_padded(call, images, geometry.pads)
    if correction is None:
        return call.maps(_pool(call, layers.AveragePooling2D, images, geometry, False))
    pooled = _pool(call, layers.AveragePooling2D, images, geometry, False, part="pool")
    return call.maps(call.write.operation(ops.multiply, pooled, correction))


@operator("GlobalAveragePool", since=1)
def global_average_pool(call: Call) -> Value:
    """GlobalAveragePooling2D."""
    return _global_pool(call, layers.GlobalAveragePooling2D)


@operator("GlobalMaxPool", since=1)
def global_max_pool(call: Call) -> Value:
    """GlobalMaxPooling2D."""
    return _global_pool(call, layers.GlobalMaxPooling2D)


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
    value = graph.scalar(node.inputs[2]) if len(node.inputs) > 2 else 0.0
    return node.operator == "Pad" and (value != 0.0 or node.attributes.get("value", 0.0) != 0.0)


def _pool(call: Call, layer: Any, images: Any, geometry: Window, same: bool, part: str = "") -> Any:
    return call.write.layer(
        layer,
        images,
        part,
        pool_size=geometry.kernel,
        strides=geometry.strides,
        padding="same" if same else "valid",
    )


def _edge_padded(call: Call, images: Any, pads: Pads) -> Any:
    """The map with its border repeated.

    Every window reaches into the map, so a repeated border pixel is in it already: the maximum
    stays what it is with infinitely small padding, and an int8 export keeps its range.
    """
    pads = tuple((int(before), int(behind)) for before, behind in pads)
    while max(map(max, pads)) > 0:
        step = tuple((min(before, 1), min(behind, 1)) for before, behind in pads)
        width = ((0, 0), *step, (0, 0))  # Reflecting one pixel, border included, repeats it.
        images = call.write.operation(ops.pad, images, width, mode="symmetric", part="pad")
        rest = zip(pads, step, strict=True)
        pads = tuple((before - a, behind - b) for (before, behind), (a, b) in rest)
    return images


def _count_correction(call: Call, geometry: Window, counts_pads: bool) -> np.ndarray | None:
    """Kernel area over pixels that the source counts, `(1, height, width, 1)`; None if all 1."""
    if None in geometry.sizes:
        if counts_pads and not call.attribute("ceil_mode", 0):
            return None
        raise call.refusal(
            "its border needs the image's size, which the file leaves open. Pass "
            "`input_shape=(height, width, channels)`"
        )
    counts = []
    for axis in (0, 1):
        before, behind = geometry.counted_pads[axis] if counts_pads else (0, 0)
        size = geometry.sizes[axis] or 0
        starts = np.arange(geometry.outputs[axis]) * geometry.strides[axis] - geometry.pads[axis][0]
        ends = np.minimum(starts + geometry.kernel[axis], size + behind)
        counts.append(ends - np.maximum(starts, -before))
    correction = math.prod(geometry.kernel) / np.multiply.outer(*counts)
    return None if np.all(correction == 1) else correction[None, :, :, None].astype(np.float32)


def _global_pool(call: Call, layer: Any) -> Value:
    return call.maps(call.write.layer(layer, call.images(), keepdims=True))

"""Transpositions between convolutions in a traced TensorFlow graph."""

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

CONVOLUTIONS = {"Conv2D", "Conv2DBackpropInput", "DepthwiseConv2dNative"}
_PRODUCTS = {"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "MatMul"}
# What these give says nothing of the pixels.
_SHAPES = {"Rank", "Shape", "ShapeN", "Size"}


def between_convolutions(graph: tf.Graph, images: tf.Tensor) -> int:
    """How many transpositions stand on a way from one convolution to another.

    A way ends at a matrix product of two tensors that both come from the images: attention needs
    its own order of axes. Transpositions that leave every axis in place are none.

    Args:
        graph: Of a traced function.
        images: Its input.
    """
    operations = graph.get_operations()
    from_image = _reached({images.op}, _after, lambda op: op.type in _SHAPES)

    def ends(op: Any) -> bool:
        both = sum(tensor.op in from_image for tensor in op.inputs) >= 2
        return op.type in _SHAPES or (op.type in _PRODUCTS and both)

    convolutions = {op for op in operations if op.type in CONVOLUTIONS}
    behind = _reached(convolutions, _after, ends)
    ahead = _reached(convolutions, _before, ends)
    moving = {op for op in operations if op.type == "Transpose" and _moves(op)}
    return len(moving & behind & ahead)


def _after(op: Any) -> Iterable[Any]:
    return (consumer for tensor in op.outputs for consumer in tensor.consumers())


def _before(op: Any) -> Iterable[Any]:
    return (tensor.op for tensor in op.inputs)


def _reached(
    starts: set[Any], follow: Callable[[Any], Iterable[Any]], ends: Callable[[Any], bool]
) -> set[Any]:
    """What is reached from the starts without passing an end; neither is included by itself."""
    reached: set[Any] = set()
    waiting = list(starts)
    while waiting:
        for op in follow(waiting.pop()):
            if op not in reached and not ends(op):
                reached.add(op)
                waiting.append(op)
    return reached


def _moves(op: Any) -> bool:
    axes = tf.get_static_value(op.inputs[1])
    return axes is None or list(axes) != sorted(axes)

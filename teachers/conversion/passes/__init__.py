"""What is done to a source graph before it is converted: a list of passes, graph in, graph out."""

from collections.abc import Callable

from keras_amalgam.teachers.conversion.passes.absorption import (
    absorb_scale,
    fuse_batch_norm,
    fuse_bias,
)
from keras_amalgam.teachers.conversion.passes.folding import fold_constants
from keras_amalgam.teachers.conversion.passes.fusions import (
    fuse_gelu,
    fuse_group_norm,
    fuse_layer_norm,
)
from keras_amalgam.teachers.conversion.passes.rewriting import without_unused
from keras_amalgam.teachers.onnx_files.graph import Graph

Pass = Callable[[Graph], Graph]


def simplified(graph: Graph, fold_batch_norm: bool = False) -> Graph:
    """The graph after all passes.

    Args:
        graph: As read, with nothing but what its outputs need.
        fold_batch_norm: Whether a batch normalization becomes part of the convolution before it.
    """
    passes: list[Pass] = [
        fold_constants,
        fuse_gelu,
        fuse_layer_norm,
        fuse_group_norm,
        fuse_bias,
        absorb_scale,
    ]
    if fold_batch_norm:
        passes.append(fuse_batch_norm)
    for run in (*passes, without_unused):
        graph = run(graph)
    return graph

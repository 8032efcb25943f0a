"""The operators that can be converted: one module per family, and the registry that knows them."""

from keras_amalgam.teachers.operators import (
    activations,
    arithmetic,
    convolution,
    linear,
    normalization,
    padding,
    pooling,
    reductions,
    shapes,
)
from keras_amalgam.teachers.operators.registry import (
    is_known,
    operator,
    resolve,
    rows,
    table,
    unknown,
)

__all__ = [
    "activations",
    "arithmetic",
    "convolution",
    "is_known",
    "linear",
    "normalization",
    "operator",
    "padding",
    "pooling",
    "reductions",
    "resolve",
    "rows",
    "shapes",
    "table",
    "unknown",
]

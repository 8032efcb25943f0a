"""What kinds of operators a runtime's time goes to."""

import re
from collections import defaultdict
from collections.abc import Iterable

# Kinds of operators, by what their names begin with, as TensorFlow and onnxruntime call them.
KINDS = {
    "depthwise convolutions": ("DepthwiseConv",),
    "convolutions": ("Conv",),
    "matrix products": ("MatMul", "BatchMatMul", "Einsum", "Gemm"),
    "transpositions, layout": ("Transpose", "ReorderInput", "ReorderOutput"),
    "normalizations": ("Mean", "SquaredDifference", "Rsqrt", "AddN", "Neg", "LayerNorm",
                       "SkipLayerNorm", "BatchNorm", "FusedBatchNorm"),
    "GELU, QuickGelu": ("Erf", "Gelu", "BiasGelu", "FastGelu", "QuickGelu"),
    "other elementwise": ("Add", "BiasAdd", "Mul", "Sub", "Div", "RealDiv", "Relu", "Sigmoid",
                          "Clip", "Minimum", "Maximum", "HardSwish", "Tanh", "QuickSwish"),
    "pads, slices, joins": ("Pad", "StridedSlice", "Slice", "Split", "Concat", "Gather", "Roll",
                            "Pack", "Tile"),
}  # fmt: skip
# How both mark operators that they rewrote for their own libraries.
_REWRITTEN = re.compile(r"^_?(Mkl)?(Native)?(PadWith)?(Fused(?!BatchNorm))?")
OTHER = "everything else"


def kind(operator: str) -> str:
    """To which of `KINDS` an operator belongs."""
    operator = _REWRITTEN.sub("", operator)
    found = [key for key, names in KINDS.items() if operator.startswith(names)]
    return found[0] if found else OTHER


def by_kind(timed: Iterable[tuple[str, float]], runs: int) -> dict[str, float]:
    """Milliseconds of one run by kind of operator, from microseconds of several runs."""
    sums: dict[str, float] = defaultdict(float)
    for operator, microseconds in timed:
        sums[kind(operator)] += microseconds / 1e3 / runs
    return dict(sums)

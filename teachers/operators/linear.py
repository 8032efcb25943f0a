"""Dense layers and matrix products."""

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.layout import Value, natural, to_order
from keras_amalgam.teachers.operators.call import Call
from keras_amalgam.teachers.operators.registry import operator


@operator("Gemm", since=7)
def gemm(call: Call) -> Value:
    """Dense; the rows of its kernel take up the order of a flattened map."""
    if call.attribute("transA", 0):
        raise call.refusal("a transposed first input (transA) is not known")
    kernel = call.constant(1) * call.attribute("alpha", 1.0)
    kernel = kernel.T if call.attribute("transB", 0) else kernel
    bias = call.constant(2)
    return _dense(call, kernel, None if bias is None else bias * call.attribute("beta", 1.0))


@operator("MatMul", since=1)
def matmul(call: Call) -> Value:
    """Dense with a constant matrix (a bias that follows is taken in), else a matrix product."""
    if isinstance(call.inputs[1], np.ndarray) and call.inputs[1].ndim == 2:
        return _dense(call, call.constant(1), call.constant(2))  # The pass fuse_bias adds input 2.
    left, right = call.source_tensor(0), call.source_tensor(1)
    result = call.write.operation(ops.matmul, left, right)
    return Value(result, natural(len(result.shape)))


def _dense(call: Call, kernel: np.ndarray, bias: np.ndarray | None) -> Value:
    value = call.value()
    last = value.rank - 1
    if value.order[-1] != last:
        value = to_order(call.write, value, (*(a for a in value.order if a != last), last))
    if value.columns is not None:
        kernel = kernel[value.columns]
    units = kernel.shape[1]
    weights = [kernel]
    if bias is not None:
        weights.append(np.broadcast_to(bias.reshape(-1), (units,)))
    tensor = call.write.layer(
        layers.Dense, value.tensor, weights=weights, units=units, use_bias=bias is not None
    )
    return Value(tensor, value.order)

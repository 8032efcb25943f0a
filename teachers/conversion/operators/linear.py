"""Dense layers and matrix products."""

import string
from typing import Any

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.conversion.layout import (
    Order,
    Value,
    in_source_columns,
    to_order,
    transposed,
    without_axes,
)
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import register_operator


@register_operator("Gemm", since=7)
def gemm(call: Call) -> Value:
    """Dense; the rows of its kernel take up the order of a flattened map."""
    if call.attribute("transA", 0):
        raise call.refusal("a transposed first input (transA) is not known")
    kernel = call.constant(1) * call.attribute("alpha", 1.0)
    kernel = kernel.T if call.attribute("transB", 0) else kernel
    bias = call.constant(2)
    if bias is not None and bias.ndim > 1 and bias.shape[0] != 1:
        raise call.refusal(f"its bias of shape {bias.shape} differs from image to image")
    return _dense(call, kernel, None if bias is None else bias * call.attribute("beta", 1.0))


@register_operator("MatMul", since=1)
def matmul(call: Call) -> Value:
    """Dense with a constant matrix (a bias that follows is taken in), else a matrix product."""
    left, right = call.inputs[:2]
    if isinstance(right, np.ndarray) and right.ndim == 2:
        return _dense(call, call.constant(1), call.constant(2))  # The pass fuse_bias adds input 2.
    for side, vector in enumerate((left, right)):
        if isinstance(vector, np.ndarray) and vector.ndim == 1:
            return _times_vector(call, call.value(1 - side), call.constant(side), side)
    values = [value for value in (left, right) if isinstance(value, Value)]
    leader = max(values, key=lambda value: value.rank)
    batch = {value.order[0] - value.rank for value in values}
    if min(value.rank for value in values) < 2 or len(batch) > 1 or batch & {-1, -2}:
        raise call.refusal("the batch takes part in its sums, or stands at different axes")
    tensors = [_factor(call, index, leader) for index in (0, 1)]
    product = call.write.operation(ops.matmul, *tensors)
    return Value(product, _batch_first(leader), batch=leader.batch)


def _times_vector(call: Call, value: Value, vector: np.ndarray, side: int) -> Value:
    """One unit of Dense, whose axis is gone; a vector on the left meets the last axis but one."""
    if side == 0 and value.rank > 1:
        value = transposed(value, (*range(value.rank - 2), value.rank - 1, value.rank - 2))
    value = _dense(call, vector[:, None], None, value, "unit")
    tensor = call.write.operation(ops.squeeze, value.tensor, axis=-1)
    return Value(tensor, without_axes(value.order, [value.rank - 1]), batch=value.batch)


def _factor(call: Call, index: int, leader: Value) -> Any:
    """A factor with its rows and columns last, and what stands before them as in the leader."""
    if isinstance(call.inputs[index], np.ndarray):
        array = call.constant(index)
        array = array.reshape((1,) * (leader.rank - array.ndim) + array.shape)
        if array.ndim != leader.rank or array.shape[leader.order[0]] != 1:
            raise call.refusal("its constant factor has a batch of its own")
        return call.write.weight(array.transpose(_batch_first(leader)), f"input_{index}")
    value = in_source_columns(call.write, call.value(index))
    return to_order(call.write, value, _batch_first(value)).tensor


def _batch_first(value: Value) -> Order:
    """The source's order but for the batch, which Keras has first."""
    batch = value.order[0]
    return (batch, *(axis for axis in range(value.rank) if axis != batch))


@register_operator("Einsum", since=12)
def einsum(call: Call) -> Value:
    """ops.einsum."""
    equation = _without_ellipsis(call, call.attribute("equation").replace(" ", ""))
    given, arrow, result = equation.partition("->")
    terms = given.split(",")
    if not arrow or "." in equation or len(terms) != len(call.inputs):
        raise call.refusal(f"its equation {equation!r} is not known")
    values = {i: call.value(i) for i, x in enumerate(call.inputs) if isinstance(x, Value)}
    letters = {terms[i][value.order[0]] for i, value in values.items()}
    batch = letters.pop()
    if letters or batch not in result or any(len(set(term)) < len(term) for term in terms):
        raise call.refusal(f"its equation {equation!r} sums over the batch or takes a diagonal")
    tensors, held = [], []
    for index, term in enumerate(terms):
        if index in values:
            value = in_source_columns(call.write, values[index])
            tensors.append(value.tensor)
            held.append("".join(term[axis] for axis in value.order))
        else:
            tensors.append(call.write.weight(call.constant(index), f"input_{index}"))
            held.append(term)
    ours = batch + result.replace(batch, "")
    product = call.write.operation(ops.einsum, f"{','.join(held)}->{ours}", *tensors)
    size = next(iter(values.values())).batch
    return Value(product, tuple(result.index(letter) for letter in ours), batch=size)


def _without_ellipsis(call: Call, equation: str) -> str:
    """The equation with a letter for each axis that an ellipsis stands for."""
    given, arrow, result = equation.partition("->")
    terms = given.split(",")
    if equation.count("...") * 3 != equation.count(".") or len(terms) != len(call.inputs):
        return equation  # Whoever reads it refuses it.
    if not arrow or ("..." in given) != ("..." in result):
        return equation
    free = [letter for letter in string.ascii_letters if letter not in equation]
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        x = call.inputs[index]
        own = x.sizes if isinstance(x, Value) else np.shape(call.constant(index))
        ahead, dots, _ = term.partition("...")
        count = len(own) - len(term.replace("...", ""))
        letters = "".join(reversed(free[:count])) if dots else ""
        for letter, size in zip(letters, own[len(ahead) :], strict=False):
            if sizes.setdefault(letter, size) != size:
                raise call.refusal(f"the ellipses of {equation!r} stand for different sizes")
        terms[index] = term.replace("...", letters)
    everything = "".join(reversed(free[: len(sizes)]))
    return f"{','.join(terms)}->{result.replace('...', everything)}"


def _dense(
    call: Call,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    value: Value | None = None,
    part: str = "",
) -> Value:
    value = call.value() if value is None else value
    last = value.rank - 1
    if value.order[0] == last:
        raise call.refusal("the batch takes part in its sums")
    if value.order[-1] != last:
        value = to_order(call.write, value, (*(a for a in value.order if a != last), last))
    if value.columns is not None:
        kernel = kernel[value.columns]
    units = kernel.shape[1]
    weights = [kernel]
    if bias is not None:
        weights.append(np.broadcast_to(bias.reshape(-1), (units,)))
    tensor = call.write.layer(
        layers.Dense, value.tensor, part, weights=weights, units=units, use_bias=bias is not None
    )
    return Value(tensor, value.order, batch=value.batch)

"""Functions of several tensors, element by element, and concatenation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers, ops

from keras_amalgam.teachers.conversion.layout import (
    Value,
    channels_last,
    in_source_columns,
    to_order,
)
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import register_operator

_WIDE = {"int64", "uint32", "uint64"}
_EXACT = 2**24  # Constants are float32, which holds whole numbers up to here.


def _register_binary(name: str, since: int, function: Any, layer: Any = None) -> None:
    """An operator of two tensors: a layer for two that depend on the image, else a function."""

    def handler(call: Call) -> Value:
        if len(call.inputs) != 2:
            raise call.refusal(f"it has {len(call.inputs)} inputs, only two are known")
        value, operands = aligned(call)
        if layer is not None and len(_values(call.inputs)) == len(operands):
            return value.with_tensor(call.write.layer(layer, operands))
        return value.with_tensor(call.write.operation(function, *operands))

    by_function = f"ops.{function.__name__}"
    handler.__doc__ = f"{layer.__name__}; {by_function} with a constant" if layer else by_function
    register_operator(name, since)(handler)


for _name, _since, _function, _layer in (
    ("Sub", 7, ops.subtract, layers.Subtract),
    ("Mul", 7, ops.multiply, layers.Multiply),
    ("Pow", 7, ops.power, None),
    ("Greater", 7, ops.greater, None),
    ("GreaterOrEqual", 12, ops.greater_equal, None),
    ("Less", 7, ops.less, None),
    ("LessOrEqual", 12, ops.less_equal, None),
    ("And", 7, ops.logical_and, None),
    ("Equal", 7, ops.equal, None),
    ("Or", 7, ops.logical_or, None),
    ("Xor", 7, ops.logical_xor, None),
):
    _register_binary(_name, _since, _function, _layer)


@register_operator("Div", since=7)
def divide(call: Call) -> Value:
    """ops.divide; of integers ops.floor_divide of their sizes, as ONNX rounds towards zero."""
    value, operands = aligned(call)
    constants = [x for x in call.inputs if isinstance(x, np.ndarray)]
    # Behind a sum with a constant, which is a float, integers travel as floats that hold them.
    kinds = {x.tensor.dtype for x in _values(call.inputs)} | {x.dtype.name for x in constants}
    if not any("int" in kind for kind in kinds):
        return value.with_tensor(call.write.operation(ops.divide, *operands))
    if any(np.abs(x.astype(np.float64)).max(initial=0) > _EXACT for x in constants):
        raise call.refusal(f"it divides integers by, or of, constants beyond {_EXACT:,}")
    is_wide = any(x.tensor.dtype in _WIDE for x in _values(call.inputs))
    wide = "int64" if is_wide else "int32"
    (sign, size), (other_sign, other_size) = (
        _sign_and_size(call, operand, wide, f"of_{index}") for index, operand in enumerate(operands)
    )
    quotient = call.write.operation(ops.floor_divide, size, other_size, part="quotient")
    sign = call.write.operation(ops.multiply, sign, other_sign, part="sign")
    signed = call.write.operation(ops.multiply, quotient, sign, part="signed")
    return value.with_tensor(call.write.operation(ops.cast, signed, value.tensor.dtype))


def _sign_and_size(call: Call, operand: Any, kind: str, part: str) -> tuple[Any, Any]:
    """Of whole numbers, a constant among them."""
    if isinstance(operand, (float, np.ndarray)):
        whole = np.asarray(operand).astype(kind)
        return np.sign(whole), np.abs(whole)
    whole = call.write.operation(ops.cast, operand, kind, part=f"whole_{part}")
    sign = call.write.operation(ops.sign, whole, part=f"sign_{part}")
    return sign, call.write.operation(ops.absolute, whole, part=f"size_{part}")


@register_operator("Add", since=7)
def add(call: Call) -> Value:
    """Add; ops.add with a constant."""
    value, operands = aligned(call)
    if len(_values(call.inputs)) == len(operands):
        return value.with_tensor(call.write.layer(layers.Add, operands))
    if isinstance(call.inputs[0], np.ndarray):
        operands.reverse()
    return value.with_tensor(call.write.sum(*operands))


@register_operator("Max", since=8)
def maximum(call: Call) -> Value:
    """Maximum; ops.maximum with a constant."""
    return _extreme(call, ops.maximum, layers.Maximum)


@register_operator("Min", since=8)
def minimum(call: Call) -> Value:
    """Minimum; ops.minimum with a constant."""
    return _extreme(call, ops.minimum, layers.Minimum)


def _extreme(call: Call, function: Any, layer: Any) -> Value:
    value, operands = aligned(call)
    if len(operands) == 1:
        return value
    if len(_values(call.inputs)) == len(operands):
        return value.with_tensor(call.write.layer(layer, operands))
    result, *others = operands
    for index, other in enumerate(others, 1):
        part = "" if index == len(others) else f"of_{index + 1}"
        result = call.write.operation(function, result, other, part=part)
    return value.with_tensor(result)


@register_operator("Sum", since=6)
def sum_of_all(call: Call) -> Value:
    """Add; ops.add with a constant."""
    return _combined(call, layers.Add, 1)


@register_operator("Mean", since=6)
def mean_of_all(call: Call) -> Value:
    """Average; ops.add and a division with a constant."""
    return _combined(call, layers.Average, len(call.inputs))


def _combined(call: Call, layer: Any, divisor: int) -> Value:
    """One layer over several tensors; constants among them, or one tensor alone, are added."""
    value, operands = aligned(call)
    is_constant = [not isinstance(x, Value) for x in call.inputs]
    if len(operands) == 1:
        return value
    if not any(is_constant):
        return value.with_tensor(call.write.layer(layer, operands))
    ordered = sorted(zip(is_constant, operands, strict=True), key=lambda pair: pair[0])
    total, *others = (operand for _, operand in ordered)
    for index, other in enumerate(others, 2):
        part = f"sum_{index}" if index < len(operands) or divisor > 1 else ""
        total = call.write.sum(total, other, part)
    if divisor > 1:
        total = call.write.operation(ops.divide, total, float(divisor))
    return value.with_tensor(total)


@register_operator("Where", since=9)
def where(call: Call) -> Value:
    """ops.where."""
    value, operands = aligned(call)
    return value.with_tensor(call.write.operation(ops.where, *operands))


@register_operator("Concat", since=4)
def concat(call: Call) -> Value:
    """Concatenate."""
    leader = _leader(_values(call.inputs))
    values = [
        _for_every_image(call, index, leader) if isinstance(x, np.ndarray) else call.value(index)
        for index, x in enumerate(call.inputs)
    ]
    axis = call.attribute("axis") % leader.rank
    if axis == leader.order[0]:
        raise call.refusal("it joins batches")
    values = [_in_order_of(call, value, leader) for value in values]
    tensor = call.write.layer(
        layers.Concatenate, [value.tensor for value in values], axis=leader.axis(axis)
    )
    return Value(tensor, leader.order, _joined_columns(values), leader.batch)


def _for_every_image(call: Call, index: int, leader: Value) -> Value:
    """A constant with the batch of a value that it stands beside."""
    array = call.constant(index)
    batch = leader.order[0]
    if array.ndim != leader.rank or array.shape[batch] != 1:
        raise call.refusal(f"its constant input {index} of shape {array.shape} has its own batch")
    array = array.squeeze(batch)
    weight = call.write.weight(array, f"input_{index}", like=leader.tensor)
    order = (batch, *(axis for axis in range(leader.rank) if axis != batch))
    return Value(weight, order, batch=leader.batch)


def aligned(call: Call) -> tuple[Value, list[Any]]:
    """The node's inputs in one layout: that layout, and tensors, arrays and floats."""
    given = list(call.inputs)
    columns = {None if v.columns is None else v.columns.tobytes() for v in _values(given)}
    if len(columns) > 1:  # Differently flattened maps meet in the source's own sequence.
        given = [in_source_columns(call.write, v) if isinstance(v, Value) else v for v in given]
    leader = _leader(_values(given))
    operands = [
        _in_order_of(call, x, leader).tensor
        if isinstance(x, Value)
        else call.operand(index, leader)
        for index, x in enumerate(given)
    ]
    return leader, operands


def _values(inputs: Sequence[Any]) -> list[Value]:
    return [value for value in inputs if isinstance(value, Value)]


def _leader(values: list[Value]) -> Value:
    """The value whose layout the others take on: a full-sized one, channels last if there is."""
    return max(values, key=lambda v: (np.prod(v.sizes), v.order == channels_last(v.rank)))


def _in_order_of(call: Call, value: Value, leader: Value) -> Value:
    if value.rank != leader.rank:
        raise call.refusal(f"its inputs have {value.rank} and {leader.rank} axes")
    return to_order(call.write, value, leader.order)


def _joined_columns(values: list[Value]) -> np.ndarray | None:
    if all(value.columns is None for value in values):
        return None
    joined, offset = [], 0
    for value in values:
        width = value.tensor.shape[1]
        own = np.arange(width) if value.columns is None else value.columns
        joined.append(own + offset)
        offset += width
    return np.concatenate(joined)

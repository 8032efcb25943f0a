"""Functions of numbers and truth values, element by element, that no layer stands for."""

from typing import Any

from keras import ops

from keras_amalgam.teachers.conversion.layout import Value
from keras_amalgam.teachers.conversion.operators.arithmetic import aligned
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import register_operator


def _register_function(name: str, since: int, function: Any) -> None:
    """An operator of one tensor that a function of `keras.ops` is."""

    def handler(call: Call) -> Value:
        value = call.value()
        return value.with_tensor(call.write.operation(function, value.tensor))

    handler.__doc__ = f"ops.{function.__name__}."
    register_operator(name, since)(handler)


for _name, _since, _function in (
    ("Abs", 1, ops.absolute),
    ("Acos", 7, ops.arccos),
    ("Acosh", 9, ops.arccosh),
    ("Asin", 7, ops.arcsin),
    ("Asinh", 9, ops.arcsinh),
    ("Atan", 7, ops.arctan),
    ("Atanh", 9, ops.arctanh),
    ("Ceil", 1, ops.ceil),
    ("Cos", 7, ops.cos),
    ("Cosh", 9, ops.cosh),
    ("Erf", 9, ops.erf),
    ("Exp", 1, ops.exp),
    ("Floor", 1, ops.floor),
    ("IsNaN", 9, ops.isnan),
    ("Log", 1, ops.log),
    ("Neg", 1, ops.negative),
    ("Not", 1, ops.logical_not),
    ("Reciprocal", 1, ops.reciprocal),
    ("Round", 11, ops.round),
    ("Sign", 9, ops.sign),
    ("Sin", 7, ops.sin),
    ("Sinh", 9, ops.sinh),
    ("Sqrt", 1, ops.sqrt),
    ("Tan", 7, ops.tan),
):
    _register_function(_name, _since, _function)


@register_operator("IsInf", since=10)
def is_inf(call: Call) -> Value:
    """ops.isinf, or ops.equal to one of the two infinities."""
    value = call.value()
    negative, positive = (call.attribute(f"detect_{s}", 1) for s in ("negative", "positive"))
    if negative and positive:
        return value.with_tensor(call.write.operation(ops.isinf, value.tensor))
    if not (negative or positive):
        raise call.refusal("it looks for neither infinity (detect_negative, detect_positive)")
    infinity = float("inf") if positive else -float("inf")
    return value.with_tensor(call.write.operation(ops.equal, value.tensor, infinity))


@register_operator("Mod", since=10)
def mod(call: Call) -> Value:
    """ops.mod, whose sign is the divisor's; with fmod ops.fmod, whose sign is the dividend's."""
    value, operands = aligned(call)
    function = ops.fmod if call.attribute("fmod", 0) else ops.mod
    integers = "int" in value.tensor.dtype
    tensor = call.write.operation(function, *operands, part="float" if integers else "")
    if integers:  # Constants are floats, and a float is no index.
        tensor = call.write.operation(ops.cast, tensor, value.tensor.dtype)
    return value.with_tensor(tensor)

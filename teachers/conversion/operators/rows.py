"""Operators that read rows whose images are not the outermost: row by row, or not at all."""

from dataclasses import replace

import numpy as np

from keras_amalgam.teachers.conversion.layout import Rows, Value
from keras_amalgam.teachers.conversion.operators.call import Call
from keras_amalgam.teachers.conversion.operators.registry import Handler, Result
from keras_amalgam.teachers.conversion.reshaping import settled

# They ask for rows and understand them.
_AWARE = {"Flatten", "Reshape", "Shape"}
_PRODUCTS = {"Gemm", "MatMul"}
# Each number of the result comes from one number of each input, at the same place.
_ELEMENTWISE = {
    "Abs", "Add", "Cast", "CastLike", "Celu", "Clip", "Div", "Dropout", "Elu", "Erf", "Exp",
    "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish", "Mul", "Neg", "Pow",
    "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Sub", "Swish", "Tanh",
}  # fmt: skip


def with_rows(handler: Handler, call: Call) -> Result | tuple[Result, ...]:
    """What an operator's function makes of its inputs, rows among them.

    Row by row means: on the tensor whose batch stands apart, where the rows of every image are.

    Args:
        handler: The operator's function.
        call: What it gets.

    Raises:
        NotImplementedError: If there are rows and the operator does not keep to each of them.
    """
    rows = [x for x in call.inputs if isinstance(x, Rows)]
    if not rows or (call.node.operator in _AWARE and not call.node.domain):
        return handler(call)
    if not _keeps_to_rows(call, rows):
        images = call.images_in_file()
        inputs = [settled(call.write, x, images) if isinstance(x, Rows) else x for x in call.inputs]
        return handler(replace(call, inputs=inputs))
    inputs = [x.value if isinstance(x, Rows) else x for x in call.inputs]
    result = handler(replace(call, inputs=inputs))
    if not isinstance(result, Value) or result.sizes[:2] != rows[0].value.sizes[:2]:
        raise call.refusal("it does not keep to the rows that it is given")
    return Rows(result)


def _keeps_to_rows(call: Call, rows: list[Rows]) -> bool:
    """Whether each row of the result comes from the rows at the same place alone."""
    first, *others = rows
    node, constants = call.node, [x for x in call.inputs if isinstance(x, np.ndarray)]
    if node.domain or any(isinstance(x, Value) for x in call.inputs):
        return False
    if node.operator in _PRODUCTS:
        matrix, *vectors = [*constants, np.zeros(())][:3]
        return (
            call.inputs[0] is first
            and not others
            and first.rank == 2
            and 1 <= matrix.ndim <= 2
            and _is_same_for_each(vectors, first)
        )
    are_alike = all(other.value.sizes == first.value.sizes for other in others)
    return node.operator in _ELEMENTWISE and are_alike and _is_same_for_each(constants, first)


def _is_same_for_each(constants: list[np.ndarray], rows: Rows) -> bool:
    """Whether constants meet every row as the same numbers."""
    return all(x.ndim < rows.rank or x.shape[: x.ndim - rows.rank + 1] == (1,) for x in constants)

"""One source node at the moment of its conversion."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_amalgam.teachers.conversion.frozen_sizes import FollowedSizes
from keras_amalgam.teachers.conversion.layout import Rows, Value, aligned_constant
from keras_amalgam.teachers.conversion.writer import Writer
from keras_amalgam.teachers.onnx_files.graph import Graph, Node

MAX_LITERAL = 16  # Numbers that stand in the model's configuration; more of them are a weight.


@dataclass(frozen=True)
class Call:
    """What an operator's function gets: the node, its inputs, and where to write.

    Args:
        node: The node.
        inputs: For each input a `Value` or `Rows`, an array if it is constant, `None` if it is left
            out.
        graph: The graph around it.
        write: Adds Keras layers under the node's name.
        followed: What is known of constants that are computed from sizes.
    """

    node: Node
    inputs: Sequence[Value | Rows | np.ndarray | None]
    graph: Graph
    write: Writer
    followed: FollowedSizes

    def attribute(self, name: str, default: Any = None) -> Any:
        """The node's attribute, or the standard's default."""
        return self.node.attributes.get(name, default)

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def value(self, index: int = 0) -> Value:
        """An input that depends on the image.

        Raises:
            NotImplementedError: If it is constant.
        """
        value = self.inputs[index] if self.has(index) else None
        if not isinstance(value, Value):
            raise self.refusal(f"its input {index} is a constant")
        return value

    def value_or_rows(self, index: int = 0) -> Value | Rows:
        """An input that depends on the image, also one that `value` refuses as rows."""
        given = self.inputs[index]
        return given if isinstance(given, Rows) else self.value(index)

    def constant(self, index: int, default: Any = None) -> np.ndarray:
        """An input that must be a constant; floating-point ones as float32.

        Raises:
            NotImplementedError: If it depends on the image.
        """
        if not self.has(index):
            return default
        value = self.inputs[index]
        if not isinstance(value, np.ndarray):
            raise self.refusal(f"its input {index} depends on the image; a constant is needed")
        is_float = not np.issubdtype(value.dtype, np.integer) and value.dtype != np.bool_
        return value.astype(np.float32) if is_float else value

    def operand(self, index: int, value: Value) -> Any:
        """A constant input as it meets a value: a number, a small array, or else a weight.

        Raises:
            NotImplementedError: If it depends on the image, or has a batch of its own.
        """
        array = aligned_constant(self.constant(index), value)
        is_weight = isinstance(array, np.ndarray) and array.dtype != np.bool_
        if is_weight and array.size > MAX_LITERAL:
            return self.write.weight(array, f"input_{index}")
        return array

    def integers(self, index: int, attribute: str | None = None) -> list[int] | None:
        """Integers of a constant input; older opsets keep some of them in an attribute."""
        if self.has(index):
            return [int(n) for n in self.constant(index).reshape(-1)]
        return None if attribute is None else self.attribute(attribute)

    def readings(self, index: int) -> list[list[int]]:
        """Integers of a constant input, first with the stand-ins for sizes, then with others.

        What is decided alike in all of them holds for every size; see `frozen_sizes`.
        """
        arrays = self.followed.readings(self.node.inputs[index], self.constant(index))
        return [[int(n) for n in array.reshape(-1)] for array in arrays]

    def sizes(self, index: int = 0) -> list[tuple[int, ...]]:
        """The source's sizes of an input that depends on the image, as in `readings`."""
        return self.followed.sizes(self.node.inputs[index], self.value(index))

    def images_in_file(self) -> int | None:
        """The number of images that the file was written for; `None` where it leaves that open."""
        return self.graph.inputs[0].shape[0]

    def refusal(self, reason: str) -> NotImplementedError:
        """The error for a form of the operator that is not known; who converts adds the node."""
        return NotImplementedError(f"{reason}.")

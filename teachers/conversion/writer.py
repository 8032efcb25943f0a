"""Writing Keras layers that carry the source's names."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

_SCOPES_WITHOUT_MEANING = re.compile(r"^(StatefulPartitionedCall(_\d+)?/)+")

_ALL = slice(None)


def as_layer_name(source_name: str) -> str:
    """A name that Keras, TensorFlow's scopes and file formats all accept.

    Args:
        source_name: Any string, as `"/layer4/layer4.1/relu/Relu"`.

    Returns:
        Letters, digits, `_`, `.` and `-`, beginning with a letter or digit, as
        `"layer4_layer4.1_relu_Relu"`.
    """
    name = _SCOPES_WITHOUT_MEANING.sub("", source_name)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).lstrip("_.-")
    return name or "node"


def output_keys(source_names: Sequence[str]) -> dict[str, str]:
    """The keys of a model's outputs, all different.

    Args:
        source_names: Of the outputs in the source.

    Returns:
        Name to key: as a layer's name, with a number behind it where another output's name has
        become the same; a name that stays as it is keeps its place.
    """
    taken = {name for name in source_names if as_layer_name(name) == name}
    keys: dict[str, str] = {}
    for name in source_names:
        key, number = as_layer_name(name), 1
        while key in taken and key != name:
            number += 1
            key = f"{as_layer_name(name)}_{number}"
        taken.add(key)
        keys[name] = key
    return keys


class Scope:
    """One model while it is written: the layer names used so far, and its input.

    Attributes:
        image: The model's input; `None` until it is there.
    """

    image: Any = None

    def __init__(self) -> None:
        """Start with nothing."""
        self._taken: set[str] = set()
        self._row: Any = None

    def unique(self, name: str) -> str:
        """The name, with a number behind it if it is taken (case does not distinguish names)."""
        candidate, number = name, 1
        while candidate.lower() in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate.lower())
        return candidate

    def row(self) -> Any:
        """The number of a table's only row, shape `(1,)` when the model runs."""
        if self._row is None:
            self._row = _rows(self, self.image, "weights", slice(1))
        return self._row


def _rows(scope: Scope, tensor: Any, name: str, images: slice = _ALL) -> Any:
    """Zeros of shape `(batch,)`, one for each of the tensor's images."""
    first = tensor[(images, *(0 for _ in tensor.shape[1:]))]
    rows = keras.ops.zeros_like(first, dtype="int32")
    for part, made in (("first", first), ("rows", rows)):
        made._keras_history.operation.name = scope.unique(f"{name}_{part}")
    return rows


class Writer:
    """Adds the layers of one source node to the Keras graph.

    The layer whose output is the node's bears the node's name; what stands before it, such as a
    padding, has a word behind it.

    Args:
        name: The node's name in the source.
        scope: The model that is being written.
    """

    def __init__(self, name: str, scope: Scope) -> None:
        """See the class."""
        self._name = as_layer_name(name)
        self._scope = scope

    @property
    def image(self) -> Any:
        """The model's input."""
        return self._scope.image

    def layer(
        self,
        layer: Callable[..., keras.layers.Layer],
        inputs: Any,
        part: str = "",
        weights: Sequence[np.ndarray] | None = None,
        **config: Any,
    ) -> Any:
        """Call a new stock layer.

        Args:
            layer: A class of `keras.layers`.
            inputs: One tensor or a list of them.
            part: What the layer does for the node, where it is not the node's own result.
            weights: Its weights, in the layer's own order; cast to float32.
            **config: The layer's arguments.

        Returns:
            The layer's output.
        """
        made = layer(name=self._unique(part), dtype="float32", **config)
        outputs = made(inputs)
        if weights is not None:
            made.set_weights([np.asarray(w, np.float32) for w in weights])
        return outputs

    def operation(self, function: Callable[..., Any], *args: Any, part: str = "", **kw: Any) -> Any:
        """Call a function of `keras.ops`.

        An operation is no layer and cannot be tapped, so the node's own result passes through an
        `Identity` layer that bears the node's name.

        Args:
            function: Of `keras.ops`, with one output.
            *args: Its arguments, tensors among them.
            part: As in `layer`.
            **kw: Its keyword arguments.

        Returns:
            The function's result.
        """
        result = function(*args, **kw)
        # Keras names operations by counting them, so names would differ from run to run and could
        # meet a layer's; a name that is set is saved and restored like a layer's.
        result._keras_history.operation.name = self._unique(part or function.__name__)
        return result if part else self.layer(keras.layers.Identity, result)

    def sum(self, tensor: Any, constant: Any, part: str = "") -> Any:
        """`ops.add`, the constant first.

        As the second operand Keras takes one that is as wide as the last axis for its bias, even
        if it lies along another axis (`add` in keras/src/backend/tensorflow/numpy.py).

        Args:
            tensor: Depends on the image.
            constant: A number, an array or a weight.
            part: As in `layer`.
        """
        return self.operation(keras.ops.add, constant, tensor, part=part)

    def weight(self, array: np.ndarray, part: str = "weight", like: Any = None) -> Any:
        """An array that the source learned, as the weight of a layer and not as a number in it.

        It is the one row of an `Embedding`, the stock layer that gives back a weight as it is.

        Args:
            array: Any shape; cast to float32. One of two values at most, a mask, is not trained.
            part: As in `layer`.
            like: A tensor whose batch the result takes on.

        Returns:
            Shape of the array; with `like`, `(batch, *shape)`.
        """
        rows = self._scope.row() if like is None else _rows(self._scope, like, self._unique(part))
        table = np.asarray(array, np.float32).reshape(1, -1)
        made = keras.layers.Embedding(
            1, table.size, name=self._unique(part), dtype="float32",
            trainable=len(np.unique(table)) > 2,
        )  # fmt: skip
        row = made(rows)
        made.set_weights([table])
        shape = array.shape if like is None else (-1, *array.shape)
        return self.operation(keras.ops.reshape, row, shape, part=f"{part}_reshape")

    def _unique(self, part: str) -> str:
        return self._scope.unique(f"{self._name}_{part}" if part else self._name)

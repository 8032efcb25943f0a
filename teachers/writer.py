"""Writing Keras layers that carry the source's names."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

_SCOPES_WITHOUT_MEANING = re.compile(r"^(StatefulPartitionedCall(_\d+)?/)+")


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


class Names:
    """Layer names used so far in one model."""

    def __init__(self) -> None:
        """Start with none."""
        self._taken: set[str] = set()

    def unique(self, name: str) -> str:
        """The name, with a number behind it if it is taken (case does not distinguish names)."""
        candidate, number = name, 1
        while candidate.lower() in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate.lower())
        return candidate


class Writer:
    """Adds the layers of one source node to the Keras graph.

    The layer whose output is the node's bears the node's name; what stands before it, such as a
    padding, has a word behind it.

    Args:
        name: The node's name in the source.
        names: Names used so far.
    """

    def __init__(self, name: str, names: Names) -> None:
        """See the class."""
        self._name = as_layer_name(name)
        self._names = names

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

    def _unique(self, part: str) -> str:
        return self._names.unique(f"{self._name}_{part}" if part else self._name)

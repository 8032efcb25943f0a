"""What stands in a configuration for operations of Keras, until a model is built of it."""

from types import SimpleNamespace
from typing import Any

import keras
from keras import ops

from keras_amalgam.teachers.keras_files.keras_2_operations import operation_of


class _StandIn(keras.Operation):
    """Stands in a configuration for operations of Keras, and is not in the model."""

    def make(self, *args: Any, **kwargs: Any) -> Any:
        """The result, by operations of Keras."""
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Leave the result where Keras looks for it when it builds a model."""
        result = self.make(*args, **kwargs)
        outputs = list(result) if isinstance(result, (list, tuple)) else [result]
        self._inbound_nodes.append(SimpleNamespace(output_tensors=outputs))
        return result


class HardSigmoid(_StandIn):
    """Keras 2's `hard_sigmoid`, `clip(0.2·x + 0.5, 0, 1)`, perhaps after a layer.

    Args:
        layer: Configuration of the layer without its activation.
        name: Name of the resulting layer.
    """

    def __init__(self, layer: dict[str, Any] | None, name: str) -> None:
        """See the class."""
        super().__init__(name=name)
        self._layer = keras.saving.deserialize_keras_object(layer) if layer else None

    def make(self, x: Any) -> Any:
        """See the class."""
        x = self._layer(x) if self._layer else x
        return ops.clip(ops.add(ops.multiply(x, 0.2), 0.5), 0.0, 1.0)


class TensorFlowCall(_StandIn):
    """A call of TensorFlow in a functional model.

    Args:
        function: Its public name without `tf.`, such as `"nn.relu"`.
        name: Name of the resulting layer.
    """

    def __init__(self, function: str, name: str) -> None:
        """See the class."""
        super().__init__(name=name)
        self._make = operation_of(function)

    def make(self, *args: Any, **kwargs: Any) -> Any:
        """See the class."""
        result = self._make(*args, **kwargs)
        if isinstance(result, keras.KerasTensor) and not self._inbound_nodes:
            result._keras_history.operation.name = self.name
        return result


STAND_INS = {kind.__name__: kind for kind in (HardSigmoid, TensorFlowCall)}

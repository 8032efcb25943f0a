"""The source network in its own runtime."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import keras
import numpy as np
import onnx
from keras import ops

from keras_amalgam.teachers.saved_model_file import SavedModel


class SourceRuntime(Protocol):
    """A network as its own framework runs it.

    Attributes:
        outputs: Names of its outputs, in its order.
    """

    outputs: tuple[str, ...]

    def run(self, images: np.ndarray, tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """Named tensors for a batch of images.

        Args:
            images: Shape `(batch, height, width, channels)`.
            tensors: Names of outputs or, where the runtime can, of tensors inside.

        Returns:
            Arrays in the source's own layout.
        """
        ...


class OnnxRuntime:
    """An ONNX model in onnxruntime, without graph optimisations, so that every tensor is there.

    Args:
        model: The parsed model.
        image_order: Source axis that each axis of the images holds, as `(0, 2, 3, 1)`.
    """

    def __init__(self, model: onnx.ModelProto, image_order: Sequence[int]) -> None:
        """See the class."""
        self._model = model
        self._to_source = [list(image_order).index(axis) for axis in range(len(image_order))]
        self.outputs = tuple(port.name for port in model.graph.output)
        initializers = {tensor.name for tensor in model.graph.initializer}
        self._input = next(p for p in model.graph.input if p.name not in initializers)
        self._sessions: dict[tuple[str, ...], Any] = {}

    def run(self, images: np.ndarray, tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """See `SourceRuntime`."""
        session = self._session(tuple(tensors))
        feed = np.ascontiguousarray(images.transpose(self._to_source))
        fixed = self._input.type.tensor_type.shape.dim[0].dim_value
        if not fixed:
            return dict(zip(tensors, self._run(session, tensors, feed), strict=True))
        # A file for a fixed batch runs in batches of that size, the last one filled up.
        filled = feed[np.minimum(np.arange(-(-len(feed) // fixed) * fixed), len(feed) - 1)]
        batches = [
            self._run(session, tensors, filled[start : start + fixed])
            for start in range(0, len(filled), fixed)
        ]
        joined = [np.concatenate(parts)[: len(feed)] for parts in zip(*batches, strict=True)]
        return dict(zip(tensors, joined, strict=True))

    def _run(self, session: Any, tensors: Sequence[str], feed: np.ndarray) -> list[np.ndarray]:
        with _refusals():
            return session.run(list(tensors), {self._input.name: feed})

    def _session(self, tensors: tuple[str, ...]) -> Any:
        if tensors not in self._sessions:
            model = onnx.ModelProto()
            model.CopyFrom(self._model)
            known = set(self.outputs)
            model.graph.output.extend(
                onnx.helper.make_empty_tensor_value_info(t) for t in tensors if t not in known
            )
            self._sessions[tensors] = _open_session(model)
        return self._sessions[tensors]


def _open_session(model: onnx.ModelProto) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    with _refusals():
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


@contextmanager
def _refusals() -> Iterator[None]:
    """Say in our words what onnxruntime refuses; its exceptions have no common class."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    names = ("Fail", "InvalidArgument", "InvalidGraph", "NotImplemented", "RuntimeException")
    try:
        yield
    except tuple(getattr(state, name) for name in names) as error:
        raise ValueError(
            f"onnxruntime cannot run the source, so it cannot be compared: {error} Mend the file, "
            "or convert with `verify=False`."
        ) from error


class SavedModelRuntime:
    """A SavedModel's own serving function in TensorFlow.

    Args:
        saved: As read.
    """

    def __init__(self, saved: SavedModel) -> None:
        """See the class."""
        self._saved = saved
        self.outputs = tuple(saved.function.structured_outputs)

    def run(self, images: np.ndarray, tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """See `SourceRuntime`."""
        import tensorflow as tf

        results = self._saved.function(**{self._saved.input_name: tf.constant(images)})
        return {name: results[name].numpy() for name in tensors}


class KerasRuntime:
    """A Keras model as it was loaded, for comparison with what became of it.

    Args:
        model: Functional or sequential. Tensors inside go by their layer's name.
    """

    def __init__(self, model: keras.Model) -> None:
        """See the class."""
        self._model = as_functional(model)
        self.outputs = output_names(self._model)

    def run(self, images: np.ndarray, tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """See `SourceRuntime`."""
        outputs = dict(zip(self.outputs, self._model.outputs, strict=True))
        wanted = [
            outputs[name] if name in outputs else self._model.get_layer(name).output
            for name in tensors
        ]
        return dict(zip(tensors, run_model(self._model, images, wanted), strict=True))


def as_functional(model: keras.Model) -> keras.Model:
    """A sequential model as a functional one over the same layers; any other as it is."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model


def output_names(model: keras.Model) -> tuple[str, ...]:
    """The names of a model's outputs: its dictionary's keys, else `output_0` and so on."""
    if isinstance(model.output, dict):
        return tuple(model.output)
    return tuple(f"output_{index}" for index in range(len(model.outputs)))


def run_model(
    model: keras.Model, images: np.ndarray, tensors: Sequence[keras.KerasTensor]
) -> list[np.ndarray]:
    """Tensors of a Keras model for a batch, in inference mode.

    Args:
        model: Functional or sequential.
        images: A batch as the model takes it.
        tensors: Symbolic tensors of the model.

    Returns:
        Their values, in the same order.
    """
    outputs = {str(index): tensor for index, tensor in enumerate(tensors)}
    results = keras.Model(model.input, outputs)(images, training=False)
    return [np.asarray(ops.convert_to_numpy(results[index])) for index in outputs]

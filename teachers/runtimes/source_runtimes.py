"""The source network in its own runtime."""

import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Protocol

import keras
import numpy as np
import onnx
from keras import ops

from keras_amalgam.models.taps import as_functional
from keras_amalgam.teachers.conversion.chosen_output import named_outputs
from keras_amalgam.teachers.onnx_files.bounds import drop_unused_nodes
from keras_amalgam.teachers.saved_models.file import SavedModel

_MAX_ELEMENTS = 2**26


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
            Arrays in the source's own layout, which `check_parity` takes for the model's own.
        """
        ...


def in_another_order(runtime: SourceRuntime) -> SourceRuntime | None:
    """The source computed in another order, by its method `otherwise`, which shows its own noise.

    Returns:
        `None` where it knows no other, or where its rounding is a part of the network.
    """
    otherwise = getattr(runtime, "otherwise", None)
    return otherwise() if otherwise else None


def in_batches(
    run: Callable[[np.ndarray], Sequence[np.ndarray]], feed: np.ndarray, fixed: int | None
) -> list[np.ndarray]:
    """What a network gives for any number of images, though made for a fixed one.

    Args:
        run: A batch to arrays whose first axis is the batch.
        feed: Images as `run` takes them.
        fixed: The only number of images that it takes, if there is one; the last batch is filled
            up with its last image.

    Raises:
        ValueError: If batches have to be joined or cut, and an array's first axis is not the batch.
    """
    if not fixed or len(feed) == fixed:
        return list(run(feed))
    filled = feed[np.minimum(np.arange(-(-len(feed) // fixed) * fixed), len(feed) - 1)]
    batches = [run(filled[start : start + fixed]) for start in range(0, len(filled), fixed)]
    other = [part.shape for part in batches[0] if part.shape[:1] != (fixed,)]
    if other:
        raise ValueError(
            f"The source is made for {fixed} images at a time, and the first axis of a tensor of "
            f"it is not the batch, so that images cannot be told apart. Received: {other[0]} for "
            f"{fixed} images. Take another tensor, or export the network with an open batch."
        )
    return [np.concatenate(parts)[: len(feed)] for parts in zip(*batches, strict=True)]


def axes_to_source(image_order: Sequence[int]) -> list[int]:
    """The transposition of images, channels last, into a source's own layout.

    Args:
        image_order: Source axis that each axis of the images holds, as `(0, 2, 3, 1)`.
    """
    return [list(image_order).index(axis) for axis in range(len(image_order))]


def as_dtype(images: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Images in the type that a source takes, rounded where it takes integers."""
    if dtype.kind not in "iu" or images.dtype.kind in "iu":
        return images.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(images), limits.min, limits.max).astype(dtype)


class OnnxRuntime:
    """An ONNX model in onnxruntime.

    Args:
        model: The parsed model.
        image_order: Source axis that each axis of the images holds, as `(0, 2, 3, 1)`.
        optimized: Whether onnxruntime may fuse nodes. Comparing at every tensor forbids it.
    """

    def __init__(
        self, model: onnx.ModelProto, image_order: Sequence[int], optimized: bool = False
    ) -> None:
        """See the class."""
        self._model = model
        self._image_order = image_order
        self._to_source = axes_to_source(image_order)
        self._optimized = optimized
        self.outputs = tuple(port.name for port in model.graph.output)
        self._input = image_ports(model)[0]
        self._sessions: dict[tuple[str, ...], Any] = {}

    def run(self, images: np.ndarray, tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """See `SourceRuntime`."""
        session = self._session(tuple(tensors))
        # Models take float32 where their source takes half precision.
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self._input.type.tensor_type.elem_type)
        feed = np.ascontiguousarray(images.transpose(self._to_source), dtype)

        def run(batch: np.ndarray) -> list[np.ndarray]:
            with _refusals():
                return session.run(list(tensors), {self._input.name: batch})

        fixed = self._input.type.tensor_type.shape.dim[0].dim_value
        return dict(zip(tensors, in_batches(run, feed, fixed), strict=True))

    def otherwise(self) -> SourceRuntime | None:
        """See `in_another_order`: with other nodes fused; `None` if it is quantized."""
        graph = self._model.graph
        if any("Quantize" in node.op_type or "Integer" in node.op_type for node in graph.node):
            return None
        return OnnxRuntime(self._model, self._image_order, not self._optimized)

    def _session(self, tensors: tuple[str, ...]) -> Any:
        if tensors not in self._sessions:
            model = onnx.ModelProto()
            model.CopyFrom(self._model)
            known = {port.name: port for port in self._model.graph.output}
            del model.graph.output[:]
            model.graph.output.extend(
                known.get(t) or onnx.helper.make_empty_tensor_value_info(t) for t in tensors
            )
            drop_unused_nodes(model.graph)
            # One at a time: a session keeps the memory that it once needed.
            self._sessions = {tensors: _open_session(model, self._optimized)}
        return self._sessions[tensors]


def image_ports(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are no weights."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    return [port for port in model.graph.input if port.name not in initializers]


def _open_session(model: onnx.ModelProto, optimized: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Without this, quantized parts are computed in whole numbers, which rounds differently.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Idle threads that spin take the cores from the training beside them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # What it refuses is in its exception, too.
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
            f"onnxruntime cannot run the source: {error} Mend the file. To convert it without "
            "comparing, pass `verify=False`."
        ) from error


class SavedModelRuntime:
    """A SavedModel's own serving function in TensorFlow.

    Args:
        saved: As read.
        image_order: As for `OnnxRuntime`, if images are channels first.
        compiled: Whether XLA compiles it.
    """

    def __init__(
        self, saved: SavedModel, image_order: Sequence[int] | None = None, compiled: bool = False
    ) -> None:
        """See the class."""
        self._saved = saved
        self._image_order = image_order
        self._compiled = compiled
        self._to_source = axes_to_source(image_order) if image_order else None
        self.outputs = saved.outputs

    def run(self, images: np.ndarray, tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """See `SourceRuntime`."""
        import tensorflow as tf

        function = self._saved.function
        serve = tf.function(function, jit_compile=True) if self._compiled else function

        def run(batch: np.ndarray) -> list[np.ndarray]:
            results = serve(**{self._saved.input_name: tf.constant(batch)})
            return [results[name].numpy() for name in tensors]

        spec = self._saved.input_spec
        # Models take float32 where their source takes half or double precision.
        feed = as_dtype(images, np.dtype(spec.dtype.as_numpy_dtype))
        feed = feed.transpose(self._to_source) if self._to_source else feed
        shape = spec.shape
        fixed = shape[0] if shape.rank else None
        return dict(zip(tensors, in_batches(run, feed, fixed), strict=True))

    def otherwise(self) -> SourceRuntime | None:
        """See `in_another_order`: compiled or, if it is, not."""
        return SavedModelRuntime(self._saved, self._image_order, not self._compiled)


class KerasRuntime:
    """A Keras model as it was loaded, for comparison with what became of it.

    Args:
        model: Functional or sequential. Tensors inside go by their layer's name.
        compiled: Whether XLA compiles it.
    """

    def __init__(self, model: keras.Model, compiled: bool = False) -> None:
        """See the class."""
        self._model = as_functional(model)
        self._compiled = compiled
        self.outputs = tuple(named_outputs(self._model))

    def run(self, images: np.ndarray, tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """See `SourceRuntime`."""
        outputs = named_outputs(self._model)
        wanted = [
            outputs[name] if name in outputs else self._model.get_layer(name).output
            for name in tensors
        ]
        arrays = run_model(self._model, images, wanted, self._compiled)
        return dict(zip(tensors, arrays, strict=True))

    def otherwise(self) -> SourceRuntime | None:
        """See `in_another_order`: compiled or, if it is, not."""
        return KerasRuntime(self._model, not self._compiled)


def run_model(
    model: keras.Model,
    images: np.ndarray,
    tensors: Sequence[keras.KerasTensor],
    compiled: bool = False,
) -> list[np.ndarray]:
    """Tensors of a Keras model for a batch, in inference mode.

    Args:
        model: Functional or sequential.
        images: A batch as the model takes it.
        tensors: Symbolic tensors of the model.
        compiled: Whether XLA compiles it.

    Returns:
        Their values, in the same order.
    """
    import tensorflow as tf

    outputs = {str(index): tensor for index, tensor in enumerate(tensors)}
    part = keras.Model(model.input, outputs)
    # Called by hand, Keras keeps every layer's output until the end; traced, TensorFlow does not.
    is_large = _elements(part) * len(images) > _MAX_ELEMENTS
    run = tf.function(part, jit_compile=compiled) if is_large or compiled else part
    results = run(tf.convert_to_tensor(images), training=False)
    return [np.asarray(ops.convert_to_numpy(results[index])) for index in outputs]


def _elements(model: keras.Model) -> int:
    """Of all layers' outputs for one image, open sizes left out."""
    nodes = chain.from_iterable(as_functional(model)._nodes_by_depth.values())
    tensors = (tensor for node in nodes for tensor in node.outputs)
    return sum(math.prod(size or 1 for size in tensor.shape[1:]) for tensor in tensors)

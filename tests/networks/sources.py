"""Source networks in their own runtimes, apart from the importer's own."""

from collections import Counter
from pathlib import Path
from typing import Protocol

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf


class Source(Protocol):
    """A network as its own runtime runs it.

    Attributes:
        nodes: Number of its nodes or layers.
        operators: Number of distinct operators or kinds of layers.
    """

    nodes: int
    operators: int

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """All outputs for images channels last, maps channels last."""
        ...


class OnnxSource:
    """An ONNX file in onnxruntime, optimised as everyone runs it."""

    def __init__(self, path: Path) -> None:
        model = onnx.load(path)
        kinds = Counter(node.op_type for node in model.graph.node if node.op_type != "Constant")
        self.nodes, self.operators = sum(kinds.values()), len(kinds)
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        shape = self.input.shape
        self.channels_first = len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        fixed = self.input.shape[0]
        if isinstance(fixed, int) and fixed < len(images):
            parts = [self.run(images[i : i + fixed]) for i in range(0, len(images), fixed)]
            return [np.concatenate(part) for part in zip(*parts, strict=True)]
        images = images.transpose(0, 3, 1, 2) if self.channels_first else images
        outputs = self.session.run(None, {self.input.name: np.ascontiguousarray(images)})
        return [self._channels_last(np.asarray(output)) for output in outputs]

    def _channels_last(self, output: np.ndarray) -> np.ndarray:
        is_map = self.channels_first and output.ndim == 4
        return output.transpose(0, 2, 3, 1) if is_map else output


class KerasSource:
    """A Keras file in Keras."""

    def __init__(self, path: Path) -> None:
        self.model = keras.saving.load_model(path)
        self.nodes = len(self.model.layers)
        self.operators = len({type(layer) for layer in self.model.layers})

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(self.model(images, training=False))]


class SavedModelSource:
    """A SavedModel in TensorFlow."""

    def __init__(self, path: Path) -> None:
        self.loaded = tf.saved_model.load(str(path))
        self.function = self.loaded.signatures["serving_default"]
        operations = self.function.graph.get_operations()
        self.nodes = len(operations)
        self.operators = len({operation.type for operation in operations})

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        name = next(iter(self.function.structured_input_signature[1]))
        return [output.numpy() for output in self.function(**{name: images}).values()]


def open_source(path: Path) -> Source:
    """A file or directory in the runtime that belongs to it."""
    if path.is_dir():
        return SavedModelSource(path)
    return KerasSource(path) if path.suffix == ".keras" else OnnxSource(path)

"""The port of networks that run outside of Keras, and such a network as a Keras layer."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

# How the training recognises the error, which TensorFlow passes on as text.
FAILED = "failed in its own runtime."
_OPEN_SIZE = 64


@dataclass(frozen=True)
class Origin:
    """Where a runtime's network comes from, and what opens it again.

    Args:
        path: The original file, or directory.
        files: All that belongs to it: `path` itself or files beside or below it.
        framework: What wrote it, as far as it says.
        engine: Name and version of what runs it.
        num_parameters: Number of weights.
        opset: Its ONNX opset, if it is ONNX.
        settings: JSON-ready choices that it was opened with.
        sha256: Of the network as a conversion of it would state, if that is another hash than the
            one over `files`.
    """

    path: Path
    files: Sequence[Path]
    framework: str
    engine: str
    num_parameters: int
    opset: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    sha256: str | None = None


class Runtime(Protocol):
    """A network in its own runtime: images in, named arrays out.

    `keras_amalgam.teachers.open_runtime` opens files as such. Any object of this form will do.
    `run` may be called by several threads at once. A runtime that knows the normalisation inside
    its network says so by a further attribute, `built_in`: an `images.built_in.BuiltIn` or
    `SeveralWays`, or `None`. One whose input is quantized says by `covers` from which number to
    which it goes.

    Attributes:
        image_shape: `(height, width, channels)` of its images, `None` where a size is open.
        output: Name of the classifier's answer, `(batch, classes)`.
        taps: Names of the other tensors that `run` returns: maps, channels last, tokens or
            vectors.
        origin: Where it comes from.
    """

    @property
    def image_shape(self) -> tuple[int | None, int | None, int]: ...  # noqa: D102

    @property
    def output(self) -> str: ...  # noqa: D102

    @property
    def taps(self) -> Collection[str]: ...  # noqa: D102

    @property
    def origin(self) -> Origin: ...  # noqa: D102

    def run(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """The answer and the taps for a batch.

        Args:
            images: As the network takes them, `(batch, *image_shape)`, float32.

        Returns:
            Arrays by name, the batch first, float32.
        """
        ...


class RuntimeLayer(keras.layers.Layer):
    """A runtime as a Keras layer, so that preprocessing, logits and taps are as everywhere.

    It has no weights and no gradient. XLA cannot compile it.

    Args:
        runtime: What runs the network.
        owner: Whom to name in errors, such as `"Teacher 'birds'"`.
    """

    def __init__(self, runtime: Runtime, owner: str) -> None:
        super().__init__(name="runtime", trainable=False, dtype="float32")
        self._runtime = runtime
        self._owner = owner
        self._names = (runtime.output, *(tap for tap in runtime.taps if tap != runtime.output))
        self._known_shapes: dict[Any, Any] = {}
        self.supports_jit = False

    def call(self, images: Any) -> dict[str, Any]:
        """Named tensors for a batch of images as the network takes them."""
        if tf.executing_eagerly():
            arrays = self._run(np.asarray(images))
        else:
            arrays = tf.numpy_function(self._run, [images], [tf.float32] * len(self._names))
        shapes = self._shapes(tuple(images.shape[1:3]))
        return {
            name: tf.ensure_shape(array, (None, *shape))
            for name, array, shape in zip(self._names, arrays, shapes, strict=True)
        }

    def compute_output_spec(self, images: Any) -> dict[str, keras.KerasTensor]:
        """Shapes as the runtime itself says."""
        shapes = self._shapes(tuple(images.shape[1:3]))
        return {
            name: keras.KerasTensor((None, *shape), dtype="float32")
            for name, shape in zip(self._names, shapes, strict=True)
        }

    def _shapes(self, size: tuple[int | None, ...]) -> list[tuple[int | None, ...]]:
        """Shapes of the tensors without the batch, for images of a size: those of a black one."""
        if size not in self._known_shapes:
            sides = [side or _OPEN_SIZE for side in size]
            arrays = self._run(np.zeros((1, *sides, self._runtime.image_shape[-1]), "float32"))
            shapes: list[tuple[int | None, ...]] = [array.shape[1:] for array in arrays]
            if None in size:
                shapes = [(None, None, s[-1]) if len(s) == 3 else s for s in shapes]
            self._known_shapes[size] = shapes
        return list(self._known_shapes[size])

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        try:
            results = self._runtime.run(np.asarray(images, "float32"))
            arrays = [np.asarray(results[name], "float32") for name in self._names]
        except Exception as error:  # Whatever a runtime raises, it is to be said whose it is.
            reason = str(error).strip().split("\n")[0]
            raise RuntimeError(
                f"{self._owner} {FAILED} Received: {type(error).__name__}: {reason} for images of "
                f"shape {images.shape}. Run its file by itself on such a batch."
            ) from error
        wrong = {
            name: array.shape
            for name, array in zip(self._names, arrays, strict=True)
            if array.shape[:1] != (len(images),)
        }
        if wrong:
            raise RuntimeError(
                f"{self._owner} {FAILED} Received: {wrong} for {len(images)} images. The first "
                "axis must be the batch: export the network with one, or name other tensors."
            )
        return arrays

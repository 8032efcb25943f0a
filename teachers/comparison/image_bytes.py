"""The two ways from an encoded image into a network: the source's and ours."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from keras_amalgam.images.preprocessing import as_input_of
from keras_amalgam.models.signals import Signals
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.teachers.comparison.reference_preprocessing import reference_input

Preprocess = Callable[[bytes], np.ndarray]


@dataclass(frozen=True)
class Received:
    """What one image becomes on our side, with a batch axis of one.

    Args:
        input: What enters the network.
        output: What the network returns.
        logits: Of the teacher.
        features: Of the teacher, by tap name.
    """

    input: np.ndarray
    output: np.ndarray
    logits: np.ndarray
    features: Mapping[str, np.ndarray]


class TeacherOnImages:
    """A teacher on single decoded images, `(height, width, 1 or 3)`, each of its own size.

    Args:
        teacher: Any.
    """

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self._models: dict[int, tuple[keras.Model, keras.Model]] = {}

    def __call__(self, pixels: np.ndarray) -> Received:
        """What the image becomes."""
        preprocessing, signals = self._for(pixels.shape[-1])
        batch = pixels[None].astype("float32")
        entering = preprocessing(batch, training=False)
        found = Signals.of(signals(batch, training=False))
        fed = as_input_of(entering, self._teacher.model.inputs[0].dtype)
        answer = found.answers[self._teacher.name]
        arrays = [entering, self._teacher.model(fed, training=False), answer]
        entered, output, logits = (ops.convert_to_numpy(array) for array in arrays)
        features = {tap: ops.convert_to_numpy(one) for tap, one in found.features.items()}
        return Received(entered, output, logits, features)

    def _for(self, channels: int) -> tuple[keras.Model, keras.Model]:
        if channels not in self._models:
            images = keras.Input((None, None, channels))
            entering = self._teacher.preprocessing.build(
                images, self._teacher.model.input_shape[-1]
            )
            self._models[channels] = (
                keras.Model(images, entering),
                self._teacher.signals(channels),
            )
        return self._models[channels]


def decoded(content: bytes, name: str = "") -> np.ndarray:
    """The pixels of an image as the data pipeline decodes them, `(height, width, 1 or 3)`.

    Args:
        content: A file's bytes.
        name: What to call it in the error; nothing by default.

    Raises:
        ValueError: If it is no image.
    """
    import tensorflow as tf

    from keras_amalgam.images.decoding import decoder

    try:
        return decoder()(content).numpy()
    except tf.errors.InvalidArgumentError as error:
        named = f"{name!r}, " if name else ""
        raise ValueError(
            f"An image to compare on cannot be decoded. Received: {named}{len(content):,} bytes "
            f"beginning with {content[:8]!r}. Expected: JPEG or PNG, or another kind that Pillow "
            "reads. Leave it out or copy it again."
        ) from error


def entering_source(teacher: Teacher, content: bytes, preprocess: Preprocess | None) -> np.ndarray:
    """What enters the source's network, channels last, with a batch axis of one.

    Args:
        teacher: Whose declared preprocessing is computed a second time.
        content: The encoded image.
        preprocess: The source's own code, instead of that.

    Raises:
        ValueError: If it is no image, or does not become what the network takes.
    """
    shape = teacher.model.input_shape[1:]
    if preprocess is None:
        array = reference_input(content, teacher.preprocessing, shape[-1])
    else:
        array = np.asarray(preprocess(content), np.float32)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    channels_first = array.ndim == 3 and array.shape[0] == shape[-1] != array.shape[-1]
    array = array.transpose(1, 2, 0) if channels_first else array
    if array.ndim != 3 or not all(
        size in (None, given) for size, given in zip(shape, array.shape, strict=True)
    ):
        raise ValueError(
            f"`preprocess` must return what enters the network. Received: shape {array.shape}. "
            f"Expected {shape}, where None is open, or with channels first."
        )
    return array[None]

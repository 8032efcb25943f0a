"""The signatures of a TF Serving bundle, and the check of each."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.export import parity
from keras_amalgam.export.entrance import Entrance, fitted_to_itself
from keras_amalgam.export.labels import Labels, classified, without_classes
from keras_amalgam.export.samples import DEFAULT_SAMPLES, photographs_of
from keras_amalgam.export.serving.images_in_graph import encoded_function
from keras_amalgam.export.signatures import INPUT_NAME, Signature, serving_function

FLOAT, UINT8, ENCODED, CLASSIFY = "serving_default", "uint8", "encoded", "classify"
OF_FILES = (ENCODED, CLASSIFY)
CLASSES, SCORES = "_classes", "_scores"

_SHARE_OF_FILES = 1e-4
"""Of the largest logit, what another order of a resize's sums may make of a photograph."""


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """One signature.

    Attributes:
        function: From the tensor `image` to named tensors.
        shape: Of the tensor `image`.
        dtype: Of the tensor `image`, TensorFlow's name.
    """

    function: Callable[[Any], dict[str, Any]]
    shape: tuple[int | None, ...]
    dtype: str

    def spec(self) -> Any:
        """The `tf.TensorSpec` of the tensor `image`."""
        import tensorflow as tf

        return tf.TensorSpec(self.shape, self.dtype, name=INPUT_NAME)


def endpoints(
    model: keras.Model,
    signature: Signature,
    labels: Labels,
    entrance: Entrance | None,
    top_k: int,
) -> dict[str, Endpoint]:
    """The signatures by name: float images, uint8 images, encoded images, and their classes.

    Args:
        model: A model that computes in float32.
        signature: Its interface.
        labels: Head to class names.
        entrance: See `encoded_function`.
        top_k: How many classes `classify` names; fewer where a head has fewer.
    """
    images = (None, *signature.image_shape)
    serve = serving_function(fitted_to_itself(model, signature), signature)
    encoded = encoded_function(model, signature, entrance)
    return {
        FLOAT: Endpoint(serve, images, "float32"),
        UINT8: Endpoint(serve, images, "uint8"),
        ENCODED: Endpoint(encoded, (None,), "string"),
        CLASSIFY: Endpoint(_classifier(encoded, labels, top_k), (None,), "string"),
    }


def inputs_of(images: np.ndarray, photographs: np.ndarray | None = None) -> dict[str, Any]:
    """Images in the form that each signature takes.

    Args:
        images: uint8, shape `(batch, height, width, channels)`.
        photographs: What the signatures of files get, likewise; by default the same.
    """
    import tensorflow as tf

    photographs = images if photographs is None else photographs
    contents = tf.stack([tf.io.encode_png(image) for image in photographs])
    return {
        FLOAT: tf.constant(images, tf.float32),
        UINT8: tf.constant(images),
        ENCODED: contents,
        CLASSIFY: contents,
    }


def run(
    directory: Path, images: np.ndarray, photographs: np.ndarray | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """What every signature of a SavedModel gives, the first image alone and the others together.

    Args:
        directory: The SavedModel.
        images: See `inputs_of`.
        photographs: See `inputs_of`.
    """
    import tensorflow as tf

    # The signatures' captured variables live as long as the loaded object does.
    loaded = tf.saved_model.load(str(directory))
    inputs, given = inputs_of(images, photographs), {}
    for name, signature in loaded.signatures.items():
        batches = [batch for batch in (inputs[name][:1], inputs[name][1:]) if len(batch)]
        outputs = [signature(**{INPUT_NAME: batch}) for batch in batches]
        given[name] = {
            key: np.concatenate([np.asarray(output[key]) for output in outputs])
            for key in outputs[0]
        }
    return given


def as_probabilities(
    given: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], labels: Labels
) -> dict[str, np.ndarray]:
    """What `classify` gives as arrays that `parity.compare` can hold against probabilities.

    A class that is named has its score there. Any other has the probability that is expected of
    it, but not more than the smallest score: `classify` says that it is not above those named.

    Args:
        given: Its outputs.
        expected: Head to probabilities, shape `(batch, units)`.
        labels: Head to class names.

    Returns:
        Head to an array like `expected`'s.
    """
    said = {}
    for head, probabilities in expected.items():
        named = zip(given[head + CLASSES], given[head + SCORES], strict=True)
        rows = zip(probabilities, named, strict=True)
        said[head] = np.stack([_row(row, *answer, labels[head]) for row, answer in rows])
    return said


def _row(
    probabilities: np.ndarray, classes: np.ndarray, scores: np.ndarray, names: tuple[str, ...]
) -> np.ndarray:
    row = np.minimum(probabilities, scores.min())
    left = list(range(len(names)))
    for name, score in zip(classes, scores, strict=True):
        # Two classes may bear one name, as cranes do in ImageNet; then the nearer is meant.
        meant = [index for index in left if names[index].encode() == name]
        if not meant:  # No class of the head: agrees with nothing.
            return np.full_like(probabilities, np.nan)
        index = min(meant, key=lambda index: abs(probabilities[index] - score))
        left.remove(index)
        row[index] = score
    return row


def check(
    directory: Path,
    job: Any,
    bounds: parity.Bounds,
    subject: str,
    resized_to: tuple[int, int] | None = None,
) -> dict[str, dict[str, parity.HeadParity]]:
    """Runs every signature of a SavedModel and compares it with the Keras model.

    The signatures of files get photographs, larger than the student is, and are compared with what
    the student makes of them when they are brought to it antialiased.

    Args:
        directory: The SavedModel.
        job: The export.
        bounds: What logits, and scores, must keep to.
        subject: What is compared, for messages.
        resized_to: `(height, width)` that encoded images are brought to; `None` where the model
            does it.

    Returns:
        Signature to head to measurements.

    Raises:
        ValueError: If one disagrees.
    """
    photographs, of_photographs = _seen_in_files(job, resized_to)
    logits = job.expected
    of_files = parity.reference(of_photographs, job.signature, photographs)
    bounds_of_files = bounds
    if bounds.max_share is not None:
        share = max(bounds.max_share, _SHARE_OF_FILES)
        bounds_of_files = dataclasses.replace(bounds, max_share=share)
    measured = {}
    for name, given in run(directory, job.images, photographs).items():
        expected = of_files if name in OF_FILES else logits
        if name == CLASSIFY:
            expected = {head: softmax(of_files[head]) for head in classified(job.labels)}
            given = as_probabilities(given, expected, job.labels)
        whose, without = f"{subject}, signature '{name}',", without_classes(job.labels)
        measured[name] = parity.compare(expected, given, whose, without)
        parity.check(measured[name], bounds_of_files if name in OF_FILES else bounds, whose)
    return measured


def _seen_in_files(job: Any, resized_to: tuple[int, int] | None) -> tuple[np.ndarray, keras.Model]:
    """What the signatures of files are compared on, and the model that says what is right."""
    entrance = job.prepared.entrance_to(resized_to)
    if entrance is None:
        return job.images, job.model
    if resized_to is None and None in job.signature.image_shape[:2]:
        return job.images, entrance.joined()
    return photographs_of(job.images[:DEFAULT_SAMPLES]), entrance.joined()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Shares of one from logits, over the last axis."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _classifier(
    encoded: Callable[[Any], dict[str, Any]], labels: Labels, top_k: int
) -> Callable[[Any], dict[str, Any]]:
    import tensorflow as tf

    def classify(image: Any) -> dict[str, Any]:
        outputs, logits = {}, encoded(image)
        for head, given in classified(labels).items():
            names = tf.constant(list(given))
            scores, indices = tf.math.top_k(tf.nn.softmax(logits[head]), min(top_k, len(given)))
            outputs[head + CLASSES] = tf.gather(names, indices)
            outputs[head + SCORES] = scores
        return outputs

    return classify

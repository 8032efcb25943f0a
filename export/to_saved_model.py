"""A student as a TensorFlow SavedModel, for servers and for TensorFlow without Keras."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.export import labels, parity
from keras_amalgam.export.artifact import Artifact
from keras_amalgam.export.entrance import fitted_to_itself
from keras_amalgam.export.preparation import prepare
from keras_amalgam.export.signatures import INPUT_NAME, serving_function
from keras_amalgam.export.staging import staged, system_error
from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.quiet import quiet

SIGNATURE_KEY = "serving_default"


# What joins functions and hands tensors on, and computes nothing.
_PLUMBING = frozenset({"Identity", "NoOp", "PartitionedCall", "StatefulPartitionedCall"})

_STORAGE = ("traced_save", "traced_restore")
"""Functions of weights on the disk, which no request calls."""


@keras_defaults()
def to_saved_model(
    model: keras.Model,
    path: str | PathLike[str],
    *,
    class_names: Mapping[str, Sequence[str]] | None = None,
    images: Any = None,
    tolerance: float | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Writes a student as a SavedModel and checks it.

    The signature `serving_default` takes `image`, raw float32 images of shape `(batch, height,
    width, channels)` in 0..255, and returns one float32 tensor per head under the head's name. A
    student of another precision is written as its float32 copy. The labels lie in
    `assets.extra/labels.json` and `assets.extra/labels_<head>.txt`.

    Args:
        model: The student, a functional model from raw images to a dict of heads; a single
            unnamed output is called after its layer.
        path: The directory to write. Its parent must exist.
        class_names: Head to class names in the order of the head's units; by default the model's
            attribute `class_names`.
        images: Raw images in 0..255 for the comparison, shape `(count, height, width,
            channels)`; by default generated photographs.
        tolerance: Largest allowed absolute difference of a logit from the Keras model's; by
            default 1e-4, or 1e-5 of a head's largest logit where that is more.
        overwrite: Whether an existing SavedModel at `path` is replaced.

    Returns:
        The artifact's record.

    Raises:
        TypeError: If the model is not functional, or the class names are no mapping.
        ValueError: If the model, the names, the images or the path cannot be used, or the
            SavedModel disagrees with the model. Then `path` is left as it was.

    Example:
        ```python
        artifact = export.to_saved_model(student, "student")
        outputs = tf.saved_model.load("student").signatures["serving_default"](images)
        ```
    """
    import tensorflow as tf

    bounds = parity.bounds_for("float32", tolerance, None)
    job = prepare(model, class_names, in_float32=True).compared_on(images)
    with staged(path, suffix="", overwrite=overwrite) as partial:
        image = (None, *job.signature.image_shape)
        spec = tf.TensorSpec(image, tf.float32, name=INPUT_NAME)
        serve = serving_function(fitted_to_itself(job.model, job.signature), job.signature)
        write({SIGNATURE_KEY: (serve, spec)}, partial)
        labels.write_folder(partial / labels.SAVED_MODEL_FOLDER, job.labels)
        measured = job.verify(run(partial, job.images), bounds, f"SavedModel '{Path(path)}'")
        operators = operator_counts(partial)
    return job.artifact(Path(path), measured, ("saved_model", "float32"), operators)


def operator_counts(directory: Path) -> dict[str, int]:
    """How often each of TensorFlow's operators occurs in the functions of a SavedModel."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    counts = Counter(
        node.op
        for graph in saved.meta_graphs
        for function in graph.graph_def.library.function
        if not any(name in function.signature.name for name in _STORAGE)
        for node in function.node_def
    )
    return {name: count for name, count in sorted(counts.items()) if name not in _PLUMBING}


def write(endpoints: Mapping[str, tuple[Callable[..., Any], Any]], directory: Path) -> None:
    """Writes a SavedModel.

    The archive finds the variables by itself. Its `track(model)` would list them a second time, as
    Keras variables, and every weight would be stored twice (Keras 3.15).

    Args:
        endpoints: Signature to its function and the `tf.TensorSpec` of its one tensor.
        directory: Where.
    """
    import tensorflow as tf

    archive: Any = keras.export.ExportArchive()
    for name, (function, spec) in endpoints.items():
        archive.add_endpoint(name, function, input_signature=[spec])
    try:
        with quiet():
            archive.write_out(str(directory), verbose=False)
    except tf.errors.OpError as error:
        raise system_error("The SavedModel", error.message) from error


def run(directory: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """Runs a SavedModel, the first image alone and the others together."""
    import tensorflow as tf

    # The signature's captured variables live as long as the loaded object does.
    loaded = tf.saved_model.load(str(directory))
    serve = loaded.signatures[SIGNATURE_KEY]
    batches = [batch for batch in (images[:1], images[1:]) if len(batch)]
    outputs = [serve(**{INPUT_NAME: tf.constant(batch, tf.float32)}) for batch in batches]
    return {
        head: np.concatenate([np.asarray(output[head]) for output in outputs])
        for head in outputs[0]
    }

"""A student as a TFLite file, for phones and small devices."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.export import labels, parity, tflite_conversion, tflite_runtime
from keras_amalgam.export.artifact import Artifact
from keras_amalgam.export.preparation import prepare
from keras_amalgam.export.samples import calibration_images
from keras_amalgam.export.signatures import describe, spatial_size
from keras_amalgam.export.staging import staged

COMPARED_CALIBRATION_IMAGES = 64


def to_tflite(
    model: keras.Model,
    path: str | PathLike[str],
    precision: str = "float32",
    calibration: Any = None,
    image_shape: Sequence[int] | None = None,
    *,
    class_names: Mapping[str, Sequence[str]] | None = None,
    images: Any = None,
    tolerance: float | None = None,
    min_agreement: float | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Writes a student as a TFLite file, runs it with LiteRT and checks it.

    The file's signature `serving_default` takes `image`, one raw image of shape `(1, height,
    width, channels)` in 0..255, and returns one float32 tensor per head under the head's name;
    read them by name (`get_signature_runner`), not by position. `"int8"` takes uint8 images, the
    others float32. A student of reduced precision is converted from its float32 copy. The labels
    are appended as a zip: `unzip -l student.tflite` lists `labels.json` and `labels_<head>.txt`.

    | precision | weights, activations | default bounds against the float32 model |
    | --- | --- | --- |
    | `"float32"` | float32, float32 | error ≤ 1e-4 |
    | `"float16"` | float16, float32 | error ≤ 1 % of the head's largest logit |
    | `"dynamic"` | int8, float32 | ≤ 10 %, mean ≤ 3 %, same class on ≥ 90 % of the images |
    | `"int8"` | int8, int8 | ≤ 25 %, mean ≤ 5 %, same class on ≥ 90 % of the images |

    Args:
        model: The student, a functional model from raw images to a dict of heads; a single
            unnamed output is called after its layer.
        path: The file to write, ending in `.tflite`. Its directory must exist.
        precision: `"float32"`, `"float16"`, `"dynamic"` or `"int8"`.
        calibration: For `"int8"`, raw unlabelled images in 0..255 of the artifact's size: a
            `tf.data.Dataset` of images or of dicts with the key `"image"`, batched or not, or an
            array. The first 512 are used; take fewer with `.take`.
        image_shape: `(height, width)` or `(height, width, channels)` for a student that takes
            any size; by default the size that it first resizes images to.
        class_names: Head to class names in the order of the head's units; by default the model's
            attribute `class_names`.
        images: Raw images in 0..255 for the comparison, shape `(count, height, width,
            channels)`; by default seeded noise, for `"int8"` the first 64 calibration images.
            `"int8"` compares on their whole grey levels.
        tolerance: Largest allowed absolute difference of a logit, instead of the default bound.
        min_agreement: Smallest allowed share of images with the same class, 0..1, instead of the
            default bound.
        overwrite: Whether an existing file at `path` is replaced.

    Returns:
        The artifact's record, with its operators.

    Raises:
        TypeError: If the model is not functional, or the class names are no mapping.
        ValueError: If an argument cannot be used, or the file disagrees with the model. Then
            `path` is left as it was.
        NotImplementedError: If an operator is none of TFLite's own, naming it and its layer.

    Example:
        ```python
        export.to_tflite(student, "student.tflite", precision="int8", calibration=images)
        ```
    """
    if precision not in tflite_conversion.PRECISIONS:
        raise ValueError(
            f"There is no such precision. Received: {precision!r}. Expected: one of "
            f"{tflite_conversion.PRECISIONS}. Use 'float32' if unsure."
        )
    size = spatial_size(model, image_shape)
    ranges = None
    if precision == "int8":
        ranges = calibration_images(calibration, describe(model), size)
        images = ranges[:COMPARED_CALIBRATION_IMAGES] if images is None else images
    job = prepare(model, class_names, images, image_shape=size, in_float32=True)
    if precision == "int8":
        job = job.with_images(np.rint(job.images))
    target = Path(path)
    with staged(target, suffix=".tflite", overwrite=overwrite) as partial:
        flatbuffer = tflite_conversion.convert(job.model, job.signature, size, precision, ranges)
        partial.write_bytes(flatbuffer)
        labels.append_to_tflite(partial, job.labels)
        loaded = tflite_runtime.load(partial)
        _check_input(loaded, precision, job.images)
        bounds = parity.bounds_for(precision, tolerance, min_agreement)
        actual = tflite_runtime.run(loaded, job.images)
        measured = job.verify(actual, bounds, f"TFLite file '{target}' ({precision})")
    operators = tflite_conversion.operator_counts(flatbuffer)
    return job.artifact(target, measured, ("tflite", precision), operators)


def _check_input(loaded: tflite_runtime.LiteRtModel, precision: str, images: np.ndarray) -> None:
    if loaded.image_shape[1:] != images.shape[1:]:
        raise ValueError(
            f"`images` do not fit the artifact's size. Received: {images.shape[1:]}. Expected: "
            f"{loaded.image_shape[1:]}. Resize them, or choose the size with `image_shape=`."
        )
    if precision == "int8" and loaded.quantization != (1.0, 0):
        raise ValueError(
            f"The int8 artifact does not take raw images. Received: an input with scale and zero "
            f"point {loaded.quantization}. Expected: (1.0, 0), one step per grey level. Calibrate "
            "with raw images in 0..255."
        )

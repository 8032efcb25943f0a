"""A student as a TFLite file, for phones and small devices."""

import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_amalgam.export import decisions, parity
from keras_amalgam.export.artifact import Artifact
from keras_amalgam.export.labels import Labels
from keras_amalgam.export.preparation import Prepared, prepare
from keras_amalgam.export.samples import calibration_images
from keras_amalgam.export.signatures import serving_function
from keras_amalgam.export.staging import staged
from keras_amalgam.export.tflite import conversion, metadata, runtime
from keras_amalgam.export.tflite.plan import CALIBRATED, Plan
from keras_amalgam.images.resizing import fitted
from keras_amalgam.keras_settings import keras_defaults

COMPARED_CALIBRATION_IMAGES = 64
RAW_IMAGES = {"uint8": (1.0, 0), "int8": (1.0, -128)}
"""Scale and zero point with which an integer image is the raw pixel."""


@keras_defaults()
def to_tflite(
    model: keras.Model,
    path: str | PathLike[str],
    precision: str = "float32",
    calibration: Any = None,
    image_shape: Sequence[int] | None = None,
    *,
    batch: int | None = 1,
    image_dtype: str | None = None,
    head_dtype: str = "float32",
    joint: bool = False,
    top_k: int = 0,
    quantizer: str = "converter",
    class_names: Mapping[str, Sequence[str]] | None = None,
    images: Any = None,
    tolerance: float | None = None,
    min_agreement: float | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Writes a student as a TFLite file, runs it with LiteRT and checks it.

    The file's signature `serving_default` takes `image`, raw images of shape `(batch, height,
    width, channels)` in 0..255, and returns one tensor of logits per head under the head's name;
    read them by name (`get_signature_runner`), not by position. A student of another precision is
    converted from its float32 copy. Class names and a description of every tensor travel inside
    the file as a zip (`unzip -l student.tflite` lists `metadata.json`, `labels.json` and
    `labels_<head>.txt`), the description also beside it, as `student.metadata.json`.

    | precision | weights, activations | default bounds against the float32 model |
    | --- | --- | --- |
    | `"float32"` | float32, float32 | error ≤ 1e-4, or 1e-5 of the head's largest logit |
    | `"float16"` | float16, float32 | error ≤ 1 % of the head's largest logit |
    | `"dynamic"` | int8, float32 | ≤ 10 %, mean ≤ 3 %, same class on ≥ 90 % of the images |
    | `"int8"` | int8, int8 | ≤ 25 %, mean ≤ 5 %, same class on ≥ 90 % of the images |
    | `"int16"` | int8, int16 | ≤ 10 %, mean ≤ 3 %, same class on ≥ 90 % of the images |

    Args:
        model: The student, a functional model from raw images to a dict of heads; a single
            unnamed output is called after its layer.
        path: The file to write, ending in `.tflite`. Its directory must exist.
        precision: One of the table.
        calibration: For `"int8"` and `"int16"`, raw unlabelled images in 0..255 of the artifact's
            size: a `tf.data.Dataset` of images or of dicts with the key `"image"`, batched or not,
            or an array. The first 512 are used; take fewer with `.take`.
        image_shape: `(height, width)` or `(height, width, channels)` for a student that takes
            any size; by default the size that it first resizes images to. Where the application
            cannot shrink photographs antialiased, twice to eight times that: the file then does
            it, for a student whose own resize is antialiased.
        batch: Images in a call; `None` for any number, which costs some operators more.
        image_dtype: Of the image: for `"int8"` `"uint8"` (the default), `"int8"` (the pixel minus
            128) or `"float32"`; `"float32"` for the others.
        head_dtype: Of the heads: `"float32"`, or for `"int8"` also `"int8"`, with scale and zero
            point in the description.
        joint: Whether `joint`, the logits over all tasks' classes together, is an output too.
        top_k: If positive, `<head>_ids` is an output for each head: the ids of so many likeliest
            classes in order, int32; fewer where the head has fewer classes.
        quantizer: `"converter"`, TensorFlow's own, or `"litert"`, its announced successor
            (`pip install 'keras-amalgam[quantizer]'`; its int8 files take int8 images).
        class_names: Head to class names in the order of the head's units; by default the model's
            attribute `class_names`.
        images: Raw images in 0..255 for the comparison, shape `(count, height, width,
            channels)`; by default generated ones, for `"int8"` and `"int16"` the first 64
            calibration images. `"int8"` compares on their whole grey levels.
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
        NotImplementedError: If an operator is none of TFLite's own, naming it and its layer, or
            has no integer form.
        ImportError: If the quantizer is not installed.

    Example:
        ```python
        export.to_tflite(student, "student.tflite", precision="int8", calibration=images)
        ```
    """
    plan = Plan(precision, image_dtype, head_dtype, batch, quantizer)
    bounds = parity.bounds_for(precision, tolerance, min_agreement)
    prepared = prepare(model, class_names, in_float32=True)
    size = prepared.size(image_shape)
    outputs = decisions.outputs_of(prepared.labels, joint, top_k)
    ranges = _ranges(prepared, calibration, size, precision, joint)
    if images is None and ranges is not None:
        images = ranges[:COMPARED_CALIBRATION_IMAGES]
    job = prepared.compared_on(images, size)
    if plan.image_dtype != "float32":
        job = job.with_images(np.rint(job.images))
    covers = prepared.entrance is not None and prepared.entrance.resize.covers
    serve = serving_function(fitted(job.model, size), job.signature)
    function = decisions.function(serve, job.labels, joint, top_k)
    target = Path(path)
    beside = metadata.beside(target).name
    with staged(target, suffix=".tflite", overwrite=overwrite, beside=(beside,)) as partial:
        shape = (*size, job.signature.image_shape[2])
        flatbuffer, operators = conversion.convert(function, job.model, shape, plan, ranges)
        partial.write_bytes(flatbuffer)
        loaded = runtime.load(partial)
        _check_input(loaded, plan, job.images)
        _describe(partial, loaded, job.model.name, plan, outputs, covers)
        subject = f"TFLite file '{target}' ({precision})"
        actual = runtime.run(runtime.load(partial), job.images)
        actual = decisions.check_ids(actual, job.labels, subject)
        measured = job.verify(actual, bounds, subject, joint)
    artifact = job.artifact(target, measured, ("tflite", precision), operators)
    return dataclasses.replace(artifact, covers=covers)


def _ranges(
    prepared: Prepared, calibration: Any, size: tuple[int, int], precision: str, joint: bool
) -> np.ndarray | None:
    """The images that integer activations get their ranges from; `None` for other precisions."""
    if precision not in CALIBRATED:
        return None
    if joint and decisions.has_overlaps(prepared.labels):
        raise _overlapping(precision)
    return calibration_images(calibration, prepared.signature, size, precision)


def _describe(
    partial: Path,
    loaded: runtime.LiteRtModel,
    name: str,
    plan: Plan,
    outputs: Labels,
    covers: bool,
) -> None:
    """Puts labels and the description of every tensor into the file, the description beside it."""
    described = metadata.describe(name, loaded, plan.precision, plan.quantizer, outputs, covers)
    metadata.append(partial, outputs, described)
    metadata.beside(partial).write_text(metadata.to_json(described), encoding="utf-8")


def _check_input(loaded: runtime.LiteRtModel, plan: Plan, images: np.ndarray) -> None:
    if loaded.image_shape[1:] != images.shape[1:]:
        raise ValueError(
            f"`images` do not fit the artifact's size. Received: {images.shape[1:]}. Expected: "
            f"{loaded.image_shape[1:]}. Resize them, or choose the size with `image_shape=`."
        )
    wanted = RAW_IMAGES.get(str(plan.image_dtype))
    # A resize shares its scale with the images, and may round 255 up by a last digit.
    if wanted is not None and not np.allclose(loaded.quantization, wanted, rtol=1e-6, atol=0):
        raise ValueError(
            f"The {plan.precision} artifact does not take raw images. Received: an input with "
            f"scale and zero point {loaded.quantization}. Expected: {wanted}, one step per grey "
            "level. Calibrate with raw images in 0..255."
        )


def _overlapping(precision: str) -> NotImplementedError:
    return NotImplementedError(
        f"The joint prediction of tasks that share a class has no {precision} form. Received: "
        "joint=True, and a class that two heads know. Expected: heads of different classes, or "
        "float activations. Leave `joint` out and join the heads' logits yourself, or use "
        "'float16' or 'dynamic'."
    )

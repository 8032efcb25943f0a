"""The student: one shared backbone, one named head per task."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import keras
import numpy as np

from keras_amalgam.images.built_in import check_normalised_once
from keras_amalgam.images.measuring import built_in_normalisation
from keras_amalgam.images.preprocessing import Preprocessing, check_takes_images
from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.models.outputs import final_activation
from keras_amalgam.models.reused_heads import reused_heads
from keras_amalgam.models.taps import as_functional
from keras_amalgam.models.teacher import Teacher

Heads = Literal["new", "reused"]


@keras_defaults(keep_policy=True)
def build_student(
    backbone: keras.Model,
    teachers: Sequence[Teacher],
    preprocessing: Preprocessing | None = None,
    image_channels: int | None = None,
    dropout: float = 0.0,
    name: str = "student",
    heads: Heads = "new",
    units: int | None = None,
) -> keras.Model:
    """Put one named head per teacher on a backbone, and its preprocessing in front.

    The result is an ordinary functional Keras model of stock layers that takes raw images of any
    size and returns `{task name: logits}`. Its plain attribute `class_names` maps each task to
    its classes, for the exporters; it is not part of the `.keras` file.

    Args:
        backbone: A functional or sequential model without a top, whose output is a map
            `(batch, height, width, channels)`, averaged here, or a vector.
        teachers: Whose tasks the student learns; their names become the heads' names.
        preprocessing: The student's own, needed where the backbone was trained before and does not
            normalise images itself: `teachers.preprocessing_of("ResNet50")` for one. By default
            images are resized to the backbone's input size and scaled to -1..1, or to what the
            backbone's own normalisation takes. Where the images' canvas cuts photographs,
            `Preprocessing(…, crop_to_aspect_ratio=True)` lets the student do so too, with a whole
            photograph.
        image_channels: Of the raw images, 1 or 3; by default what the backbone takes.
        dropout: Rate before new heads.
        name: The student's name.
        heads: `"new"` ones are one layer each, to be trained. `"reused"` ones are the teachers'
            own, frozen, on features that the student rebuilds in each teacher's form; train such a
            student with `RebuiltFeatures`, at `taps.rebuilt(teachers)`. What leads from the shared
            features to each teacher's stays in the student.
        units: Channels of the layers that reused heads share; by default as many as the backbone's
            output has, at most half of the widest teacher's features.

    Returns:
        The student.

    Raises:
        TypeError: If the teachers are no sequence of `Teacher`.
        ValueError: If there is no teacher, two share a name or one has that of a layer, the
            backbone's output is neither map nor vector, or probabilities, images would be
            normalised twice, or nothing says how they were in the backbone's training. If the head
            of a teacher cannot be reused: its answer depends on more than its tap, or it has no tap
            or no layers.

    Example:
    ```python
    backbone = keras.applications.MobileNetV3Small(
        include_top=False, input_shape=(96, 96, 3), weights=None
    )
    student = build_student(backbone, [cars, birds])
    ```
    """
    check_names(teachers)
    _check_backbone(backbone)
    _check_head_settings(heads, units, dropout)
    channels = backbone.input_shape[-1]
    built_in = built_in_normalisation(backbone)
    if preprocessing is None and built_in is None and _was_trained(backbone):
        raise ValueError(
            f"The backbone {backbone.name!r} was trained before, and its own images may have been "
            "normalised in another way than to -1..1. Received: no `preprocessing`, and weights "
            "that no layer is initialised with. Pass preprocessing="
            "keras_amalgam.teachers.preprocessing_of('ResNet50') for a network of "
            "keras.applications, Preprocessing(mean=…, std=…), or Preprocessing(scale=1/127.5, "
            "mean=1.0) for -1..1."
        )
    preprocessing = preprocessing or own_preprocessing(backbone)
    check_normalised_once(built_in, preprocessing, "The student")
    images = keras.Input((None, None, image_channels or channels), name="image")
    x = backbone(preprocessing.build(images, channels))
    if heads == "new":
        if len(x.shape) == 4:
            x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name="dropout")(x)
    taken = [layer.name for layer in keras.Model(images, x).layers]
    for teacher in teachers:
        if teacher.name in taken:
            raise ValueError(
                "A head is a layer and needs a name of its own. Received: teacher "
                f"{teacher.name!r} and a layer of the student of that name, one of {taken}. "
                "Rename the teacher, or the backbone."
            )
    if heads == "reused":
        outputs = reused_heads(x, teachers, units)
    else:
        outputs = {teacher.name: teacher.task.head(teacher.name)(x) for teacher in teachers}
    student = keras.Model(images, outputs, name=name)
    student.class_names = {teacher.name: teacher.class_names for teacher in teachers}
    return student


def _check_head_settings(heads: Heads, units: int | None, dropout: float) -> None:
    if heads not in ("new", "reused"):
        raise ValueError(f"`heads` must be 'new' or 'reused'. Received: {heads!r}.")
    if heads == "new" and units is not None:
        raise ValueError(f"`units` belongs to reused heads. Received: {units=} and heads='new'.")
    if heads == "reused" and (dropout or (units is not None and units < 1)):
        raise ValueError(
            "Reused heads take features without dropout, and `units` must be at least 1. Received: "
            f"{dropout=}, {units=}."
        )


def own_preprocessing(
    backbone: keras.Model,
    crop_to_aspect_ratio: bool = False,
    normalisation: Preprocessing | None = None,
) -> Preprocessing:
    """A student's preprocessing: to the backbone's input size, and to -1..1.

    Where the backbone has a normalisation of its own, to what that takes.

    Args:
        backbone: The model given to `build_student`.
        crop_to_aspect_ratio: Whether images of another shape are cut rather than squeezed; right
            where the canvas that the student learns on cuts them too.
        normalisation: What the backbone's weights were trained with, instead of -1..1.

    Raises:
        ValueError: If images are to be cut, and the backbone has no size to cut them to.
    """
    height, width, _ = backbone.input_shape[1:]
    size = None if None in (height, width) else (height, width)
    built_in = built_in_normalisation(backbone)
    implied = built_in.preprocessing() if built_in else None
    return replace(
        normalisation or implied or Preprocessing(scale=1 / 127.5, mean=1.0),
        size=size,
        crop_to_aspect_ratio=crop_to_aspect_ratio,
    )


def _check_backbone(backbone: keras.Model) -> None:
    output = as_functional(backbone).output
    check_takes_images(backbone, "The backbone")
    if not isinstance(output, keras.KerasTensor) or len(output.shape) not in (2, 4):
        raise ValueError(
            "The backbone's output must be a map (batch, height, width, channels) or a vector "
            f"(batch, channels). Received: {backbone.name!r} with output {backbone.output_shape}. "
            "Build it with include_top=False."
        )
    if final_activation(output) == "probabilities":
        raise ValueError(
            "The backbone must end in features. Received: "
            f"{backbone.name!r}, which ends in a softmax. Build it with include_top=False."
        )


def _was_trained(backbone: keras.Model) -> bool:
    """Whether biases, or norms' means and offsets, are not the zeros that layers begin with."""
    zeros = ("beta", "bias", "moving_mean")
    begun = [weight for weight in backbone.weights if weight.path.split("/")[-1] in zeros]
    return any(np.any(keras.ops.convert_to_numpy(weight)) for weight in begun)


def check_names(teachers: Sequence[Teacher]) -> None:
    """Raise unless these are teachers, at least one, each with a name of its own."""
    if not isinstance(teachers, Sequence) or not all(isinstance(t, Teacher) for t in teachers):
        raise TypeError(
            f"Teachers must be a list of Teacher. Received: {type(teachers).__name__} "
            f"{teachers!r:.80}. Give [Teacher(model, name=…, class_names=…), …]."
        )
    names = [teacher.name for teacher in teachers]
    if not names:
        raise ValueError("At least one teacher is needed. Received: none.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"Every teacher needs a name of its own: it names the student's head. Received twice: "
            f"{twice}. Give each teacher a different name, or leave one out."
        )

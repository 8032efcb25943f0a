"""Running a model over labelled test images: logits, labels, accuracy and its error bar."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_amalgam.models.teacher import Teacher
from keras_amalgam.quiet import quiet_loggers

Predict = Callable[[np.ndarray], Mapping[str, Any]]
"""Maps raw images `(batch, height, width, channels)` to `{task: logits (batch, classes)}`."""

Labelled = tuple[Any, Any] | Iterable[tuple[Any, Any]]
"""A pair of arrays `(images, labels)`, or batches of such pairs (a batched `tf.data.Dataset`)."""


def predictor(model: Any, task: str | None = None) -> Predict:
    """One calling convention for whatever can label images.

    Args:
        model: A student (`keras.Model` with a dict of logits), a teacher, or any callable from
            images to `{task: logits}`, such as a TFLite or ONNX runner. A model or callable that
            returns a bare array needs `task`.
        task: Name of the only task, for what returns a bare array.

    Returns:
        A function from images `(batch, height, width, channels)` to `{task: (batch, classes)}`,
        NumPy.

    Raises:
        TypeError: If `model` can't be called, or (when used) what it returns is no dict of logits.
    """
    if isinstance(model, Teacher):
        name = model.name if task is None else task
        answers = functools.cache(model.answers)

        def call(images: np.ndarray, /) -> Any:
            return {name: answers(images.shape[-1]).predict_on_batch(images)[model.name]}

    elif isinstance(model, keras.Model):
        call = model.predict_on_batch
    elif callable(model):
        call = model
    else:
        raise TypeError(
            f"A model to evaluate must be callable. Received: {model!r}. Expected a Keras model, a "
            "teacher, or a function from images to {task: logits}."
        )

    def predict(images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = call(images)
        if not isinstance(outputs, Mapping):
            if task is None:
                raise TypeError(
                    f"A model to evaluate must return a dict of logits. Received: "
                    f"{type(outputs).__name__}. Expected {{task: logits}}. Name its only task with "
                    "`task=`."
                )
            outputs = {task: outputs}
        return {name: np.asarray(logits) for name, logits in outputs.items()}

    return predict


def teachers_predictor(teachers: Iterable[Teacher]) -> Predict:
    """All teachers side by side: each sees every image, also those of the others' domains.

    Args:
        teachers: Teachers with distinct names.

    Returns:
        A function from images `(batch, height, width, channels)` to `{teacher name: logits}`.
    """
    predictors = [predictor(teacher) for teacher in teachers]

    def predict(images: np.ndarray) -> dict[str, np.ndarray]:
        merged: dict[str, Any] = {}
        for one in predictors:
            merged.update(one(images))
        return merged

    return predict


def labelled_batches(
    labelled: Labelled, batch_size: int = 256
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches `(images, labels)` as NumPy arrays, in the order of the data.

    Args:
        labelled: Two arrays `(images, labels)`, or an iterable of batches.
        batch_size: How many images at once; used for arrays only.

    Yields:
        Images `(batch, height, width, channels)` and integer labels `(batch,)`.

    Raises:
        ValueError: If an element is no pair, or images and labels differ in number.
    """
    if isinstance(labelled, tuple):
        images, labels = _pair(labelled)
        starts = range(0, len(images), batch_size)
        batches = ((images[i : i + batch_size], labels[i : i + batch_size]) for i in starts)
    else:
        batches = (_pair(element) for element in labelled)
    yield from batches


def collect(
    predict: Predict, labelled: Labelled, batch_size: int = 256
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Logits of every task for all labelled images.

    Args:
        predict: Images `(batch, height, width, channels)` to `{task: logits}`; see `predictor`.
        labelled: Two arrays `(images, labels)`, or an iterable of batches.
        batch_size: How many images at once; used for arrays only.

    Returns:
        `{task: (images, classes) float32}` and the labels `(images,) int64`.

    Raises:
        ValueError: If there are no images, or a task's logits are not finite or not one row an
            image.
    """
    logits: dict[str, list[np.ndarray]] = {}
    labels: list[np.ndarray] = []
    for images, batch_labels in labelled_batches(labelled, batch_size):
        with quiet_loggers("tensorflow"):  # It warns where many shapes of batches are met.
            answers = predict(images)
        for task, values in answers.items():
            values = np.asarray(values, dtype="float32")
            if values.ndim != 2 or len(values) != len(images):
                raise ValueError(
                    f"Logits of task '{task}' don't fit the images. Received: shape {values.shape} "
                    f"for {len(images)} images. Expected ({len(images)}, classes)."
                )
            if not np.isfinite(values).all():
                raise ValueError(
                    f"Logits of task '{task}' are not finite. Received: NaN or infinity after "
                    f"{sum(map(len, labels))} images. Look at the model's weights and the image "
                    "range."
                )
            logits.setdefault(task, []).append(values)
        labels.append(batch_labels)
    if not labels:
        raise ValueError(
            "There is nothing to evaluate. Received: no batch. Expected at least one labelled "
            "image; a `tf.data` iterator can be read once only: pass the data set itself."
        )
    return {task: np.concatenate(parts) for task, parts in logits.items()}, np.concatenate(labels)


def task_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of images whose largest logit is the label's.

    Args:
        logits: `(images, classes)`.
        labels: Class indices `(images,)`, each in `0 .. classes - 1`.

    Returns:
        A fraction in 0..1.

    Raises:
        ValueError: If shapes don't fit or a label is none of the classes (-1 marks unlabelled
            images).
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            f"Logits and labels don't fit. Received: shapes {logits.shape} and {labels.shape}. "
            "Expected (images, classes) and (images,), at least one image."
        )
    check_labels(labels, logits.shape[1])
    return float(np.mean(logits.argmax(axis=1) == labels))


def check_labels(labels: np.ndarray, num_classes: int) -> None:
    """Refuse labels that are none of the classes.

    Args:
        labels: Class indices `(images,)`, at least one.
        num_classes: Number of classes.

    Raises:
        ValueError: Saying which labels came.
    """
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"A label is none of the classes. Received: labels {labels.min()} to {labels.max()} "
            f"for {num_classes} classes. Evaluate on a labelled split: -1 marks unlabelled images."
        )


def standard_error(accuracy: float, num_images: int) -> float:
    """Binomial standard error of an accuracy: `sqrt(p (1 - p) / n)`.

    It says how much the accuracy would vary with another draw of as many test images; not how much
    it varies with the seed of the training.

    Args:
        accuracy: Fraction in 0..1.
        num_images: How many test images it was measured on, at least 1.

    Returns:
        A fraction in 0..0.5.
    """
    if not 0.0 <= accuracy <= 1.0 or num_images < 1:
        raise ValueError(
            f"No standard error. Received: accuracy {accuracy!r} on {num_images!r} images. "
            "Expected a fraction in 0..1 on at least one image."
        )
    return math.sqrt(accuracy * (1.0 - accuracy) / num_images)


def difference(one: float | None, other: float | None) -> float | None:
    """One number minus another.

    Args:
        one: What was measured, or `None` if it was not.
        other: As `one`.

    Returns:
        `None` unless both were measured.
    """
    return None if one is None or other is None else one - other


def _pair(element: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(element, (tuple, list)) or len(element) != 2:
        raise ValueError(
            f"Evaluation needs labelled images. Received: {type(element).__name__}. Expected pairs "
            "(images, labels)."
        )
    images, labels = np.asarray(element[0]), np.asarray(element[1])
    if labels.ndim != 1 or images.ndim != 4 or len(images) != len(labels):
        raise ValueError(
            f"Images and labels don't fit. Received: shapes {images.shape} and {labels.shape}. "
            "Expected (batch, height, width, channels) and (batch,)."
        )
    return images, labels.astype("int64")

"""What stops a training before or while it goes wrong."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_amalgam.images import check_images


def check_training_data(x: Any, y: Any, channels: int, owners: Sequence[str] | None) -> None:
    """Refuse labels, missing images, images that are not 0..255 and sources of no teacher.

    Looks at the first batch of a data set, and at no batch of a generator, which has but one run.

    Args:
        x: What `fit` got as images.
        y: What `fit` got as labels.
        channels: Of the student's raw images.
        owners: The teachers' names in their order, if a term believes the one whose collection an
            image came from; sources are looked at only then.

    Raises:
        ValueError: Saying what is wrong and what to do.
    """
    if x is None:
        raise ValueError("fit needs images. Received: none. Call fit(images).")
    if y is not None:
        _refuse_labels("fit(x, y)")
    if isinstance(x, tf.data.Dataset):
        without_labels(x.element_spec)
        _check_source_names(getattr(x, "source_names", None), owners)
        x = next(iter(x.take(1)), None)
        if x is None:
            raise ValueError(
                "The data set is empty. Received: a tf.data.Dataset of no batch. If it is batched "
                "with drop_remainder=True, the batch may be larger than the number of images."
            )
    elif isinstance(x, tuple):
        without_labels(x)
    images, source = split(x)
    if isinstance(images, (np.ndarray, tf.Tensor)):
        if len(images) == 0:
            raise ValueError("There are no images. Received: an array of length 0.")
        images = np.asarray(images)
        check_images(images if source is None else {"image": images, "source": source}, "fit")
        if images.shape[-1] != channels:
            raise ValueError(
                "Images and student disagree about channels. Received: images of shape "
                f"{tuple(images.shape)}, a student that takes {channels} channel(s). Bring the "
                "images to the student's channels, or use build_student(…, image_channels=…)."
            )
        _check_sources(source, owners)


def _check_source_names(names: Sequence[str] | None, owners: Sequence[str] | None) -> None:
    """Sources are numbers, so another order would silently exchange the teachers."""
    if names is None or owners is None or list(names) == list(owners):
        return
    if set(names) == set(owners):
        raise ValueError(
            "Sources and teachers must be in one order: source k is the k-th teacher's collection. "
            f"Received: sources {list(names)}, teachers {list(owners)}. Give the sources in the "
            "teachers' order."
        )


def _check_sources(source: Any, owners: Sequence[str] | None) -> None:
    if source is None or owners is None:
        return
    strangers = np.setdiff1d(source, np.arange(-1, len(owners)))
    if strangers.size:
        raise ValueError(
            "A source must be the number of the teacher whose collection the image came from, or "
            f"-1 if that is unknown. Received: {strangers.tolist()} for the teachers "
            f"{dict(enumerate(owners))}. Number the collections in the teachers' order."
        )


def without_labels(data: Any) -> Any:
    """The images of a batch.

    Raises:
        ValueError: If the batch is a tuple with labels.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if y is not None:
        _refuse_labels("a data set of (images, labels)")
    if sample_weight is not None:
        raise ValueError("Sample weights are not supported. Received: a data set with weights.")
    return x


def split(x: Any) -> tuple[Any, Any]:
    """A batch as images and sources, the latter `None` if not given.

    Raises:
        ValueError: If a dict has other keys than `image` and `source`.
    """
    if not isinstance(x, Mapping):
        return x, None
    if "image" not in x or set(x) - {"image", "source"}:
        raise ValueError(
            "A batch must be images or {'image': images, 'source': numbers}. "
            f"Received keys: {sorted(x)}."
        )
    return x["image"], x.get("source")


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Ends the training when a loss is NaN or infinite and says whose it was."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the total first: it is finite only if all are."""
        logs = logs or {}
        if math.isfinite(float(logs.get("loss", 0.0))):
            return
        bad = [key for key, value in logs.items() if not math.isfinite(float(value))]
        deepest = [key for key in bad if not any(k.startswith(f"{key}/") for k in bad)]
        named = [key for key in deepest if key != "loss"]
        raise FloatingPointError(
            f"The loss is no longer finite at batch {batch}. Received: NaN or infinity in "
            f"{_describe(named)}. Lower the learning rate or the term's weight, or look at that "
            "teacher's outputs on these images; the weights of the last checkpoint are sound."
        )


def _describe(keys: list[str]) -> str:
    if not keys:
        return "the regularisation"
    parts = []
    for key in keys:
        term, _, rest = key.partition("/")
        teacher, _, component = rest.partition("/")
        parts.append(
            f"term {term!r}, teacher {teacher!r}" + (f", component {component!r}" * bool(component))
        )
    return "; ".join(parts)


def _refuse_labels(what: str) -> None:
    raise ValueError(
        f"Amalgamation learns from images alone, without labels. Received: {what}. Pass only the "
        "images: fit(images), or dataset.map(lambda image, label: image)."
    )

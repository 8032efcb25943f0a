"""What stops a training before or while it goes wrong."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_amalgam.images.checks import SOURCES_NEEDED, check_images
from keras_amalgam.models.batch import Batch, labels_refused
from keras_amalgam.models.runtime import FAILED


def checked(
    x: Any, y: Any, channels: int, owners: Sequence[str] | None, caller: str = "fit"
) -> Any:
    """Refuse labels, missing images, images that are not 0..255 and sources of no teacher.

    Arrays and the first batch of a data set are looked at before the first step, further batches
    of a data set as they come; those of a generator, which has but one run, are not.

    Args:
        x: What `fit` or `evaluate` got as images.
        y: What it got as labels.
        channels: Of the student's raw images.
        owners: The teachers' names in their order, if a term believes the one whose collection an
            image came from; sources are looked at only then.
        caller: The method's name, for errors.

    Returns:
        The images to train on; of a data set, one that checks itself under `named_errors`.

    Raises:
        TypeError: If images are a list, or of another type than uint8 or float.
        ValueError: Saying what is wrong and what to do.
    """
    if x is None:
        raise ValueError(f"{caller} needs images. Received: none. Call {caller}(images).")
    if y is not None:
        raise labels_refused(f"{caller}(x, y)")
    if isinstance(x, list):
        raise TypeError(
            "Images must be one array, a tf.data.Dataset or {'image': …, 'source': …}. Received: "
            f"a list of {len(x)}. Use np.stack(images)."
        )
    if not isinstance(x, tf.data.Dataset):
        batch = _without_lists(Batch.of(x))
        _check_batch(batch, channels, owners)
        return batch.as_element()
    Batch.of(x.element_spec)
    _check_source_names(source_names(x), owners)
    _check_batch(Batch.of(_first_batch(x)), channels, owners)
    return _self_checking(x, owners)


def _without_lists(batch: Batch) -> Batch:
    """Sources and ids as arrays: Keras takes the numbers of a list for one input each."""
    known = {"source": batch.source, "ids": batch.ids}
    lists = {name: np.asarray(value) for name, value in known.items() if isinstance(value, list)}
    return dataclasses.replace(batch, **lists)


def _first_batch(dataset: tf.data.Dataset) -> Any:
    try:
        batch = next(iter(dataset.take(1)), None)
    except tf.errors.OpError as error:
        if (explained := _explained(error)) is not None:
            raise explained from None
        raise ValueError(
            f"The data set cannot be read. Received: {error.message.splitlines()[0]} Images of "
            "different sizes are brought to one by keras_amalgam.data.stream(…, canvas=…)."
        ) from error
    if batch is None:
        raise ValueError(
            "The data set is empty. Received: a tf.data.Dataset of no batch. If it is batched "
            "with drop_remainder=True, the batch may be larger than the number of images."
        )
    return batch


def _check_batch(batch: Batch, channels: int, owners: Sequence[str] | None) -> None:
    images, source = batch.images, batch.source
    if not isinstance(images, (np.ndarray, tf.Tensor)):
        return
    if len(images) == 0:
        raise ValueError("There are no images. Received: an array of length 0.")
    images = np.asarray(images)
    check_images(images if source is None else {"image": images, "source": source}, "fit")
    _check_lengths(batch)
    if images.shape[-1] != channels:
        raise ValueError(
            "Images and student disagree about channels. Received: images of shape "
            f"{tuple(images.shape)}, a student that takes {channels} channel(s). Bring the "
            "images to the student's channels, or use build_student(…, image_channels=…)."
        )
    if owners is not None:
        if source is None:
            raise ValueError(SOURCES_NEEDED)
        check_sources(source, owners)


_BAD_IMAGES = "Images must be finite and in 0..255."
_BAD_SOURCES = "Sources must be numbers of teachers, or -1."


def _self_checking(dataset: tf.data.Dataset, owners: Sequence[str] | None) -> tf.data.Dataset:
    """The same batches, each looked at on its way: some networks swallow a NaN without a trace."""
    spec = Batch.of(dataset.element_spec)
    floats = getattr(spec.images, "dtype", tf.uint8).is_floating
    if not (floats or (owners is not None and spec.source is not None)):
        return dataset

    def look(element: Any) -> Any:
        batch = Batch.of(element)
        images, source = batch.images, batch.source
        checks = []
        if floats:
            right = tf.reduce_all((images >= 0) & (images <= 255))  # never true of a NaN
            seen = [tf.reduce_min(images), tf.reduce_max(images)]
            checks.append(tf.debugging.Assert(right, [_BAD_IMAGES, *seen]))
        if source is not None and owners is not None:
            source = tf.cast(source, tf.int64)  # Of unsigned numbers none is compared with -1.
            right = tf.reduce_all((source >= -1) & (source < len(owners)))
            seen = [tf.reduce_min(source), tf.reduce_max(source)]
            checks.append(tf.debugging.Assert(right, [_BAD_SOURCES, *seen]))
        with tf.control_dependencies(checks):
            return tf.nest.map_structure(tf.identity, element)

    return dataset.map(look).prefetch(1)


@contextmanager
def named_errors() -> Iterator[None]:
    """Says in our words what a data set finds on its way: bad images, a runtime that fails."""
    try:
        yield
    except tf.errors.OpError as error:
        explained = _explained(error)
        if explained is None:
            raise
        raise explained from None


def _explained(error: tf.errors.OpError) -> Exception | None:
    message, kept = error.message, "The student's weights are those of the last step before it."
    failed = re.search(rf"RuntimeError: (.* {re.escape(FAILED)} .*)", message)
    if failed is not None:
        return RuntimeError(f"{failed[1]} {kept}")
    found = re.search(
        rf"assertion failed: \[({re.escape(_BAD_IMAGES)}|{re.escape(_BAD_SOURCES)})\] "
        r"\[(.*?)\] \[(.*?)\]",
        message,
    )
    if found is None:
        return None
    return ValueError(
        f"{found[1]} Received: a later batch of the data set with values from {found[2]} to "
        f"{found[3]}. Find it and mend it, or leave it out. {kept}"
    )


def refuse_weights(settings: Mapping[str, Any]) -> None:
    """Raise a `ValueError` if samples or classes are to be weighted."""
    given = [name for name in ("sample_weight", "class_weight") if settings.get(name) is not None]
    if given:
        raise ValueError(
            f"Images cannot be weighted. Received: {given}. Leave it out; "
            "keras_amalgam.data.stream(…, proportions=…) shows some images more often."
        )


def source_names(dataset: tf.data.Dataset) -> Sequence[str] | None:
    """The names that `data.stream` gave the sources, also behind `take`, `prefetch` and the like.

    Not behind a `map`, which may have renumbered them.
    """
    return _noted_by_stream(dataset, "source_names")


def check_mixed_up(dataset: tf.data.Dataset, method: str) -> None:
    """Raise a `ValueError` for a `data.stream` that mixes up no image of some source.

    Args:
        dataset: Batches of images. Of those from elsewhere nothing is known.
        method: Whose images they are to be, for the error.
    """
    known = _noted_by_stream(dataset, "augmentations") or {}
    plain = [name for name, augmentation in known.items() if not augmentation.mixup]
    if plain:
        raise ValueError(
            f"The method {method!r} trains on images that are mixed up. Received: a stream without "
            f"mixup for {plain}. Give data.stream(…, augmentation=data.Augmentation(mixup=1.0, "
            "zoom=0.25, …))."
        )


def check_signals_of(x: Any, manifest: Sequence[Mapping[str, Any]]) -> None:
    """Raise a `ValueError` for a cache's stream with signals of other teachers.

    Args:
        x: What `fit` or `evaluate` got as images.
        manifest: A `manifest_entry` for each teacher of the training.
    """
    stored = _noted_by_stream(x, "signals_of") if isinstance(x, tf.data.Dataset) else None
    if stored is None:
        return
    for entry in manifest:
        found = stored.get(entry["name"], {})
        differing = [key for key in entry if entry[key] != found.get(key)]
        if differing:
            raise ValueError(
                f"The cache holds signals of another teacher than {entry['name']!r}. Received: "
                f"signals of {list(stored)}, where {differing} differ. Train with the teachers of "
                "the cache, or make a cache of these."
            )


def _noted_by_stream(dataset: tf.data.Dataset, name: str) -> Any:
    """What `data.stream` noted, also behind what leaves the elements as they are."""
    while getattr(dataset, name, None) is None:
        inputs = dataset._inputs() if hasattr(dataset, "_inputs") else []
        if len(inputs) != 1 or "Map" in type(dataset).__name__:
            return None
        (dataset,) = inputs
    return getattr(dataset, name)


def _check_source_names(names: Sequence[str] | None, owners: Sequence[str] | None) -> None:
    """Sources are numbers, so another order would silently exchange the teachers."""
    names, owners = list(names or ()), list(owners or ())
    misplaced = [
        name for name in owners if name in names and names.index(name) != owners.index(name)
    ]
    if misplaced:
        raise ValueError(
            "Sources and teachers must be in one order: source k is the k-th teacher's collection. "
            f"Received: sources {names}, teachers {owners}. Give the sources in the teachers' "
            "order, every teacher's."
        )


def _check_lengths(batch: Batch) -> None:
    """Refuse signals and ids that are not one for each image."""
    given = {"id": batch.ids} if batch.ids is not None else {}
    for name, signals in batch.signals.items():
        given |= {f"answers of {name}": one for one in signals.answers.values()}
        given |= {f"features of {name}": one for one in signals.features.values()}
    number = len(batch.images)
    odd = {name: np.shape(value) for name, value in given.items() if len(value) != number}
    if odd or (batch.ids is not None and np.asarray(batch.ids).dtype.kind not in "iu"):
        raise ValueError(
            f"Signals and ids must be one for each image, ids whole numbers. Received: {number} "
            f"images, {odd or f'ids of type {np.asarray(batch.ids).dtype}'}. Give as many of each."
        )


def check_sources(source: Any, owners: Sequence[str]) -> None:
    """Raise a `ValueError` for a source that is no teacher's and not -1.

    Args:
        source: Integers `(batch,)`; `None` is right.
        owners: The teachers' names in their order.
    """
    if source is None:
        return
    strangers = np.setdiff1d(source, np.arange(-1, len(owners)))
    if strangers.size:
        raise ValueError(
            "A source must be the number of the teacher whose collection the image came from, or "
            f"-1 if that is unknown. Received: {strangers.tolist()} for the teachers "
            f"{dict(enumerate(owners))}. Number the collections in the teachers' order."
        )


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

"""Streams are told which epoch comes next, so that their order depends on nothing else."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def epoch_numbers(images: Any) -> list[Any]:
    """The `EpochNumber` of every `data.stream` that a data set is made of.

    Args:
        images: What `fit` got; streams behind `map`, `take`, `zip` and the like are found.
    """
    found, waiting = [], [images] if isinstance(images, tf.data.Dataset) else []
    while waiting:
        dataset = waiting.pop()
        number = getattr(dataset, "epoch_number", None)
        if number is not None:
            found.append(number)
        elif hasattr(dataset, "_inputs"):
            waiting += dataset._inputs()
    return found


def from_the_first_epoch(images: tf.data.Dataset) -> tf.data.Dataset:
    """The same batches, whose next pass is the first epoch, however often they were iterated.

    Args:
        images: Batches.
    """
    for number in epoch_numbers(images):
        number.next = 0
    return images


def first_batch(images: tf.data.Dataset) -> Any:
    """The first batch of the first epoch.

    Args:
        images: Batches.
    """
    return next(iter(from_the_first_epoch(images)))


class SetEpoch(keras.callbacks.Callback):
    """Sets the number of each epoch before its images are drawn.

    Args:
        numbers: Of the streams; see `epoch_numbers`.
    """

    def __init__(self, numbers: Sequence[Any]) -> None:
        super().__init__()
        self._numbers = numbers

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Say which epoch comes."""
        for number in self._numbers:
            number.next = epoch

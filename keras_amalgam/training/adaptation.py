"""Before the first step: terms look at real signals, once per training."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_amalgam.models.batch import Batch
from keras_amalgam.terms import AmalgamationTerm, Observation
from keras_amalgam.training.epoch_numbers import epoch_numbers, from_the_first_epoch

_ARRAY_BATCH = 64
# Batches of a data set without a known end that are looked through for all teachers' images.
_MOST_BATCHES = 1000

Observe = Callable[[Batch], Observation]


def adapt(
    terms: Sequence[AmalgamationTerm], images: Any, observe: Observe, num_teachers: int
) -> None:
    """Let every term that has to, and has not yet, look at the signals of some images.

    Args:
        terms: Of the training.
        images: What the training runs on, with the signals of runtime teachers: a data set of
            batches, or arrays as for `Amalgamator.fit`. Of arrays, images evenly from first to
            last are looked at; of a data set, its first ones, or batches evenly from all of it if
            a teacher has none of its own among those.
        observe: Makes the signals of a batch, the student in inference mode.
        num_teachers: Whose sources images may have.
    """
    for term in terms:
        if not term.is_adapted:
            wanted = term.adaptation_images
            term.adapt_once(_Observations(images, observe, num_teachers, wanted))


def check_adapted(terms: Sequence[AmalgamationTerm]) -> None:
    """Refuse to compute losses of terms that have not seen a signal.

    Raises:
        RuntimeError: Naming the terms.
    """
    waiting = [term.name for term in terms if not term.is_adapted]
    if waiting:
        raise RuntimeError(
            f"Terms must look at the teachers' signals before the first step. Received: {waiting}, "
            "which have not. Call amalgamator.adapt(images) first; fit does it by itself."
        )


class _Observations:
    """Some batches with their signals, computed as they are iterated."""

    def __init__(self, images: Any, observe: Observe, num_teachers: int, wanted: int) -> None:
        self._images, self._observe, self._wanted = images, observe, wanted
        self._num_teachers = num_teachers

    def __iter__(self) -> Iterator[Observation]:
        seen = 0
        for element in self._elements():
            if seen >= self._wanted:
                return
            batch = Batch.of(element)
            seen += len(batch.images)
            yield self._observe(batch)

    def _stride(self, images: tf.data.Dataset) -> int:
        """One batch of so many is looked at.

        If collections come one after the other, the first images are a single teacher's.
        """
        is_mixed = bool(epoch_numbers(images))  # As `data.stream` does.
        if is_mixed or Batch.of(images.element_spec).source is None:
            return 1
        seen, owners = 0, set()
        for batches, element in enumerate(from_the_first_epoch(images), start=1):
            source = np.asarray(Batch.of(element).source)
            seen += len(source)
            owners |= set(source.tolist())
            if seen >= self._wanted:
                is_one_sided = not owners >= {*range(self._num_teachers)}
                return max(1, _number_of(images) // batches) if is_one_sided else 1
        return 1

    def _elements(self) -> Iterator[Any]:
        if isinstance(self._images, tf.data.Dataset):
            stride = self._stride(self._images)
            yield from from_the_first_epoch(self._images).shard(stride, 0)
            return
        images = self._images
        count = len(Batch.of(images).images)
        chosen = np.linspace(0, count - 1, min(count, self._wanted)).round().astype(int)
        for start in range(0, len(chosen), _ARRAY_BATCH):
            rows = chosen[start : start + _ARRAY_BATCH]
            yield keras.tree.map_structure(
                lambda array, rows=rows: tf.convert_to_tensor(np.asarray(array)[rows]), images
            )


def _number_of(images: tf.data.Dataset) -> int:
    """Number of batches; of a data set that does not know its end, counted up to a bound."""
    known = int(images.cardinality())
    if known > 0:
        return known
    return sum(1 for _ in from_the_first_epoch(images).take(_MOST_BATCHES))

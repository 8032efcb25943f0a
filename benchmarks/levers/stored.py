"""Views of photographs with the teachers' signals on them, kept in memory.

Teachers are frozen, so that what they say of a view needs to be worked out only once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_amalgam.data import Augmentation
from keras_amalgam.data.epochs import EpochNumber
from keras_amalgam.models.signals import Signals
from keras_amalgam.models.teacher import Teacher

_BATCH = 250


@dataclass(frozen=True)
class Stored:
    """Several views of every image of all sources, and the teachers' signals on each.

    Args:
        views: uint8, shape `(views, images, height, width, channels)`.
        source: Whose collection an image is from, int32, shape `(images,)`.
        names: The sources.
        answers: Logits by teacher, float32, shape `(views, images, classes)`.
        features: By teacher, float16, shape `(views, images, …)`: maps or vectors; empty if they
            are not stored.
    """

    views: np.ndarray
    source: np.ndarray
    names: tuple[str, ...]
    answers: Mapping[str, np.ndarray]
    features: Mapping[str, np.ndarray]

    @classmethod
    def of(
        cls,
        collections: Mapping[str, np.ndarray],
        teachers: Sequence[Teacher],
        augmentations: Mapping[str, Augmentation],
        num_views: int,
        seed: int,
        with_features: bool = True,
    ) -> "Stored":
        """Draw the views, and ask the teachers.

        Args:
            collections: Raw images by source, uint8, `(images, height, width, channels)`.
            teachers: In the order of the sources; each with one tap.
            augmentations: By source what makes a view.
            num_views: Number of views of each image.
            seed: Integer that the views, and the partners of mixed images, are drawn with.
            with_features: Whether features are stored, not answers alone.
        """
        source = np.repeat(
            np.arange(len(collections), dtype=np.int32), [len(c) for c in collections.values()]
        )
        # Shuffled, so that images are mixed with others than their neighbours in the data set.
        order = np.random.default_rng(seed).permutation(len(source))
        images, source = np.concatenate([*collections.values()])[order], source[order]
        drawn = [augmentations[name] for name in collections]
        views = np.stack([_view(images, source, drawn, (seed, n)) for n in range(num_views)])
        signals = [_signals(teacher, views, with_features) for teacher in teachers]
        names = [teacher.name for teacher in teachers]
        return cls(
            views,
            source,
            tuple(collections),
            {name: answers for name, (answers, _) in zip(names, signals, strict=True)},
            {
                name: features
                for name, (_, features) in zip(names, signals, strict=True)
                if with_features
            },
        )

    def batches(self, batch_size: int, seed: int) -> tf.data.Dataset:
        """Batches of all images in a new order each epoch, one of its views of each, at random.

        Args:
            batch_size: Images per batch; a rest that fills none is left out.
            seed: Integer that, with the number of the epoch, settles order and choice.

        Returns:
            Batches with source and signals, of known number.
        """
        num_views, count = self.views.shape[:2]
        number = EpochNumber()

        def one_pass(random: tf.Tensor) -> tf.data.Dataset:
            def draw(random: np.ndarray) -> np.ndarray:
                generator = np.random.default_rng(int(random))
                chosen = generator.integers(num_views, size=count), generator.permutation(count)
                return np.stack(chosen, axis=-1)

            pairs = tf.ensure_shape(tf.numpy_function(draw, [random], tf.int64), (count, 2))
            return tf.data.Dataset.from_tensor_slices(pairs).batch(batch_size, drop_remainder=True)

        pairs = number.random_numbers(seed).flat_map(one_pass)
        pairs = pairs.apply(tf.data.experimental.assert_cardinality(count // batch_size))
        batches = pairs.map(lambda chosen: self._element(chosen, batch_size)).prefetch(2)
        batches.epoch_number = number  # pyright: ignore[reportAttributeAccessIssue]
        batches.source_names = self.names  # pyright: ignore[reportAttributeAccessIssue]
        return batches

    def _element(self, chosen: tf.Tensor, batch_size: int) -> dict[str, Any]:
        arrays = [self.views, *self.answers.values(), *self.features.values()]

        def take(chosen: np.ndarray) -> list[np.ndarray]:
            view, image = chosen.T
            taken = [array[view, image] for array in arrays]
            return [taken[0], self.source[image], *(one.astype(np.float32) for one in taken[1:])]

        types = [tf.uint8, tf.int32, *[tf.float32] * (len(arrays) - 1)]
        taken = tf.numpy_function(take, [chosen], types)
        shapes = [arrays[0].shape, self.source.shape, *(array.shape for array in arrays[1:])]
        images, source, *signals = [
            tf.ensure_shape(value, (batch_size, *shape[2:]))
            for value, shape in zip(taken, shapes, strict=True)
        ]
        answers = dict(zip(self.answers, signals, strict=False))
        features = dict(zip(self.features, signals[len(answers) :], strict=True))
        given = {
            name: Signals(
                {name: answers[name]}, {"features": features[name]} if features else {}
            ).as_dict()
            for name in answers
        }
        return {"image": images, "source": source, "signals": given}


def _view(
    images: np.ndarray,
    source: np.ndarray,
    augmentations: Sequence[Augmentation],
    seed: tuple[int, int],
) -> np.ndarray:
    """One view of each image; within a batch, images are mixed with those of their source."""
    views = np.empty_like(images)
    for number, augmentation in enumerate(augmentations):
        own = np.flatnonzero(source == number)
        for start in range(0, len(own), _BATCH):
            rows = own[start : start + _BATCH]
            pair = tf.random.fold_in(tf.constant(seed), number * len(source) + start)
            views[rows] = augmentation(tf.constant(images[rows]), pair).numpy()
    return views


def _signals(
    teacher: Teacher, views: np.ndarray, with_features: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Answers and features of every view; of features only some shape where none are wanted."""
    flat = views.reshape(-1, *views.shape[2:])
    model = teacher.signals(views.shape[-1])
    answers, features = [], []
    for start in range(0, len(flat), _BATCH):
        images = tf.constant(flat[start : start + _BATCH])
        signals = Signals.of(model.predict_on_batch(images))
        answers.append(signals.answers[teacher.name])
        kept = signals.features["features"] if with_features else answers[-1][:, :0]
        features.append(kept.astype(np.float16))
    shape = views.shape[:2]
    return tuple(
        np.concatenate(parts).reshape(*shape, *parts[0].shape[1:]) for parts in (answers, features)
    )

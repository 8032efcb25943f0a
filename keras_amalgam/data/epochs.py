"""What one epoch holds: how many images of each source, and in which order."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Epoch:
    """How an epoch of a stream runs.

    Args:
        steps: Batches per epoch; None for as many as the sources have images together.
        shuffle: Whether each epoch has a new random order; else the sources come one after another.
        drop_remainder: Whether a last batch that is not full is left out, so that all have one
            shape.
        cache: Whether decoded images are kept in memory (images x height x width x channels
            bytes), read once when the stream is made. If not, they are read anew in each epoch and
            shuffled within a window of `window` images. None keeps them while they take at most a
            quarter of the memory that is free, and warns where they take more.
        window: Images that an uncached stream holds per source to shuffle within; fewer where those
            of all sources would take more than 1 GiB.

    Raises:
        ValueError: If `steps` or `window` is not positive.
    """

    steps: int | None = None
    shuffle: bool = True
    drop_remainder: bool = True
    cache: bool | None = None
    window: int = 2048

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name, value in (("steps", self.steps), ("window", self.window)):
            if value is not None and value < 1:
                raise ValueError(
                    f"Epoch needs a positive number of {name}. Received: {name}={value}. Give one."
                )


def images_per_epoch(
    sizes: Mapping[str, int],
    batch_size: int,
    proportions: Mapping[str, float] | None,
    epoch: Epoch,
) -> list[int]:
    """Images of each source in one epoch.

    Args:
        sizes: Images each source has.
        batch_size: Images per batch.
        proportions: Relative weight of each source, all of them; None for as many as they have.
        epoch: The length, if given in steps.

    Returns:
        One count per source; they sum to `steps * batch_size`, or to the sum of `sizes`. Shares are
        rounded to whole images by the largest remainder.

    Raises:
        ValueError: If the proportions do not fit the sources, or no batch would be full.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(
            f"A stream needs a positive batch size. Received: batch_size={batch_size!r}. Give "
            "for example 64."
        )
    total = epoch.steps * batch_size if epoch.steps else sum(sizes.values())
    if total < batch_size and epoch.drop_remainder:
        raise ValueError(
            f"An epoch would have no full batch. Received: {total} images and "
            f"batch_size={batch_size}. Give a smaller batch size, "
            "`epoch=Epoch(drop_remainder=False)` or `epoch=Epoch(steps=...)`."
        )
    weights = sizes if proportions is None else _checked(proportions, sizes)
    shares = np.array([weights[name] for name in sizes], float)
    shares *= total / shares.sum()
    counts = np.floor(shares).astype(int)
    for index in np.argsort(counts - shares, kind="stable")[: total - counts.sum()]:
        counts[index] += 1
    return counts.tolist()


def _checked(proportions: Mapping[str, float], sizes: Mapping[str, int]) -> Mapping[str, float]:
    if not isinstance(proportions, Mapping) or set(proportions) != set(sizes):
        raise ValueError(
            "Proportions must name every source of the stream. Received: "
            f"proportions={proportions!r} for the sources {list(sizes)}. Give one number for each."
        )
    for name, value in proportions.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(
                f"Proportions must be positive numbers. Received: {value!r} for source '{name}'. "
                "Give relative weights, such as 2.0 and 1.0, or leave the source out."
            )
    return proportions


class EpochNumber:
    """The number of the epoch that the next pass through a stream is.

    Every pass counts it up by one. A training sets it before each epoch, so that its order and
    augmentation depend on the seed and the epoch alone, whoever looked at the stream before, and a
    training that goes on in another process goes on with the images of its epoch.

    Attributes:
        next: The number, from 0.
    """

    def __init__(self) -> None:
        """The first epoch comes first."""
        self.next = 0

    def _take(self) -> np.int64:
        number = self.next
        self.next += 1
        return np.int64(number)

    def random_numbers(self, seed: int) -> tf.data.Dataset:
        """One random number, that of the seed and the epoch; int64."""
        return self.with_random_numbers(seed).map(lambda pair: pair[1])

    def with_random_numbers(self, seed: int) -> tf.data.Dataset:
        """The epoch's number, and one random number of it and the seed; int64 `(2,)`."""

        def number(_: tf.Tensor) -> tf.Tensor:
            # Not a variable: under a strategy it would be a mirrored one, which no data set reads.
            epoch = tf.ensure_shape(tf.numpy_function(self._take, [], tf.int64), ())
            pair = tf.stack([tf.constant(seed, tf.int64), epoch])
            return tf.stack([epoch, tf.random.stateless_uniform((), pair, 0, 2**62, tf.int64)])

        return tf.data.Dataset.from_tensors(0).map(number)


def draw(sizes: Sequence[int], counts: Sequence[int], shuffle: bool, seed: tf.Tensor) -> tf.Tensor:
    """The images of one epoch, numbered through all sources.

    Whole passes through a source come before any image comes again.

    Args:
        sizes: Images each source has.
        counts: Images of each source in the epoch.
        shuffle: Whether the order is random; else source after source, each in its own order.
        seed: The epoch's random number.

    Returns:
        Numbers in 0..sum(sizes) - 1, `(sum(counts),)` int64.
    """
    parts, start = [], 0
    for number, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        passes = -(-count // size)
        if shuffle:
            keys = tf.random.stateless_uniform((passes, size), _pair(seed, number))
            order = tf.reshape(tf.argsort(keys, axis=-1), [-1])
        else:
            order = tf.tile(tf.range(size), [passes])
        parts.append(tf.cast(order[:count], tf.int64) + start)
        start += size
    drawn = tf.concat(parts, axis=0)
    if shuffle:
        keys = tf.random.stateless_uniform((sum(counts),), _pair(seed, len(sizes)))
        drawn = tf.gather(drawn, tf.argsort(keys))
    return drawn


def _pair(seed: tf.Tensor, number: int) -> tf.Tensor:
    return tf.stack([seed, tf.constant(number, tf.int64)])

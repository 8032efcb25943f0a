"""Several sources mixed into one data set of batches, from memory or read anew in each epoch."""

import re
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_amalgam.data.epochs import Epoch, EpochNumber, draw, images_per_epoch
from keras_amalgam.images.checks import check_images

_CHUNK = 512  # images read at once into the cache


def mix_cached(
    sources: Mapping[str, tf.data.Dataset],
    batch_size: int,
    proportions: Mapping[str, float] | None,
    seed: int,
    epoch: Epoch,
    number: EpochNumber,
) -> tf.data.Dataset:
    """Reads and checks all images now, and draws batches from memory.

    Args:
        sources: Name -> images of one shape and type.
        batch_size: Images per batch.
        proportions: As in `stream`.
        seed: As in `stream`.
        epoch: As in `stream`.
        number: Which epoch the next pass is.

    Returns:
        Batches of images, source numbers `(batch,)` int32, and two int64 seeds per image `(batch,
        2)` of which a batch's first are its own.

    Raises:
        ValueError: If an image cannot be read or is outside 0..255, or the proportions do not fit.
    """
    with tf.device("CPU:0"):
        stored = {name: _read(name, dataset) for name, dataset in sources.items()}
        sizes = {name: int(tf.shape(images)[0]) for name, images in stored.items()}
        counts = images_per_epoch(sizes, batch_size, proportions, epoch)
        pool = tf.concat(list(stored.values()), axis=0)
    lengths, total = list(sizes.values()), sum(counts)

    def rows(random: tf.Tensor) -> tf.data.Dataset:
        drawn = draw(lengths, counts, epoch.shuffle, random)
        columns = [drawn, tf.fill((total,), random), tf.range(total, dtype=tf.int64)]
        return tf.data.Dataset.from_tensor_slices(tf.stack(columns, axis=-1))

    def gather(row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return tf.gather(pool, row[:, 0]), source_of(row[:, 0], lengths), row[:, 1:]

    drawn = number.random_numbers(seed).flat_map(rows)
    drawn = drawn.apply(tf.data.experimental.assert_cardinality(total))
    batches = drawn.batch(batch_size, drop_remainder=epoch.drop_remainder)
    return batches.map(gather, num_parallel_calls=tf.data.AUTOTUNE)


def mix_uncached(
    sources: Mapping[str, tf.data.Dataset],
    batch_size: int,
    proportions: Mapping[str, float] | None,
    seed: int,
    epoch: Epoch,
    number: EpochNumber,
) -> tf.data.Dataset:
    """Like `mix_cached`, but reads the images in each epoch and shuffles them within windows.

    Only the first images of each source are checked now.
    """
    sizes = {name: _known_size(name, dataset) for name, dataset in sources.items()}
    counts = images_per_epoch(sizes, batch_size, proportions, epoch)
    lengths, total = list(sizes.values()), sum(counts)
    for name, dataset in sources.items():
        _read(name, dataset.take(_CHUNK // 16))

    def one_pass(random: tf.Tensor) -> tf.data.Dataset:
        # In this function's graph alone: the order depends on `random`, not on a global seed.
        tf.compat.v1.set_random_seed(1)
        parts = []
        for index, dataset in enumerate(sources.values()):
            images = passes(dataset, lengths[index], counts[index], _other(random, index), epoch)
            parts.append(images.map(lambda image, index=index: (image, tf.constant(index))))
        drawn = draw(lengths, counts, epoch.shuffle, random)
        chosen = tf.data.Dataset.from_tensor_slices(tf.cast(source_of(drawn, lengths), tf.int64))
        mixed = tf.data.Dataset.choose_from_datasets(parts, chosen, stop_on_empty_dataset=False)
        pairs = tf.stack([tf.fill((total,), random), tf.range(total, dtype=tf.int64)], axis=-1)
        elements = tf.data.Dataset.zip(mixed, tf.data.Dataset.from_tensor_slices(pairs))
        return elements.map(lambda element, pair: (*element, pair))

    elements = number.random_numbers(seed).flat_map(one_pass)
    elements = elements.apply(tf.data.experimental.assert_cardinality(total))
    return elements.batch(batch_size, drop_remainder=epoch.drop_remainder)


def source_of(drawn: tf.Tensor, lengths: list[int]) -> tf.Tensor:
    """Which source an image belongs to, by its number through all sources; int32."""
    ends = tf.cumsum(tf.constant(lengths, tf.int64))
    return tf.searchsorted(ends, drawn, side="right")


def passes(
    dataset: tf.data.Dataset, size: int, count: int, random: Any, epoch: Epoch
) -> tf.data.Dataset:
    """Whole passes through a source, then a part of one: a random part if shuffled."""
    whole, rest = divmod(count, size)
    if not epoch.shuffle:
        return dataset.repeat(whole + 1).take(count)

    def shuffled(images: tf.data.Dataset, number: Any) -> tf.data.Dataset:
        return images.shuffle(epoch.window, random + number, reshuffle_each_iteration=False)

    # Taking the first images of a pass would never reach the last ones of a large source.
    kept = tf.data.Dataset.from_tensor_slices(draw([size], [size], True, random) < rest)
    some = tf.data.Dataset.zip(dataset, kept).filter(lambda *element: element[1])
    some = shuffled(some.map(lambda *element: element[0]), tf.constant(-1, tf.int64))
    if not whole:
        return some
    passes = tf.data.Dataset.range(whole).flat_map(lambda number: shuffled(dataset, number))
    return passes.concatenate(some) if rest else passes


def _other(random: Any, number: int) -> Any:
    """Another random number for each source."""
    return random + number


def _known_size(name: str, dataset: tf.data.Dataset) -> int:
    size = int(dataset.cardinality())
    if size < 0:
        raise ValueError(
            f"Source '{name}' must know how many images it has when it is not cached. Received: "
            "a data set of unknown cardinality. Say it with "
            "`dataset.apply(tf.data.experimental.assert_cardinality(number))`."
        )
    return size


def _read(name: str, dataset: tf.data.Dataset) -> tf.Tensor:
    """All images of a source in one tensor, checked."""
    chunks = []
    try:
        for chunk in dataset.batch(_CHUNK):
            check_images(chunk, f"Source '{name}'")
            chunks.append(chunk)
    except tf.errors.OpError as error:
        raise ValueError(
            f"Source '{name}' cannot be read. Received: {reason_of(error)} Repair or remove what "
            "is named."
        ) from error
    if not chunks:
        raise ValueError(f"Source '{name}' is empty. Received: no image. Give at least one.")
    return tf.concat(chunks, axis=0)


def reason_of(error: tf.errors.OpError) -> str:
    """What one of our own assertions in a pipeline says, or else TensorFlow's first line."""
    own = re.search(r"assertion failed: \[(.*)\]", error.message)
    return own[1].replace("\\'", "'") if own else error.message.splitlines()[0]

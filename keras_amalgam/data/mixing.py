"""Several sources mixed into one data set of batches, from memory or read anew in each epoch."""

import re
from collections.abc import Mapping

import tensorflow as tf

from keras_amalgam.data.epochs import Epoch, draw, images_per_epoch, random_numbers
from keras_amalgam.images.checks import check_images

_CHUNK = 512  # images read at once into the cache


def mix_cached(
    sources: Mapping[str, tf.data.Dataset],
    batch_size: int,
    proportions: Mapping[str, float] | None,
    seed: int,
    epoch: Epoch,
) -> tf.data.Dataset:
    """Reads and checks all images now, and draws batches from memory.

    Args:
        sources: Name -> images of one shape and type.
        batch_size: Images per batch.
        proportions: As in `stream`.
        seed: As in `stream`.
        epoch: As in `stream`.

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

    def rows(number: tf.Tensor) -> tf.data.Dataset:
        drawn = draw(lengths, counts, epoch.shuffle, number)
        columns = [drawn, tf.fill((total,), number), tf.range(total, dtype=tf.int64)]
        return tf.data.Dataset.from_tensor_slices(tf.stack(columns, axis=-1))

    def gather(row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return tf.gather(pool, row[:, 0]), source_of(row[:, 0], lengths), row[:, 1:]

    drawn = random_numbers(seed).flat_map(rows)
    drawn = drawn.apply(tf.data.experimental.assert_cardinality(total))
    batches = drawn.batch(batch_size, drop_remainder=epoch.drop_remainder)
    return batches.map(gather, num_parallel_calls=tf.data.AUTOTUNE)


def mix_uncached(
    sources: Mapping[str, tf.data.Dataset],
    batch_size: int,
    proportions: Mapping[str, float] | None,
    seed: int,
    epoch: Epoch,
) -> tf.data.Dataset:
    """Like `mix_cached`, but reads the images in each epoch and shuffles them within windows.

    Only the first images of each source are checked now.
    """
    sizes = {name: _known_size(name, dataset) for name, dataset in sources.items()}
    counts = images_per_epoch(sizes, batch_size, proportions, epoch)
    lengths, total = list(sizes.values()), sum(counts)
    parts = []
    for number, (name, dataset) in enumerate(sources.items()):
        _read(name, dataset.take(_CHUNK // 16))
        images = _passes(dataset, lengths[number], counts[number], seed, epoch)
        parts.append(images.map(lambda image, number=number: (image, tf.constant(number))))

    def choices(number: tf.Tensor) -> tf.data.Dataset:
        drawn = draw(lengths, counts, epoch.shuffle, number)
        return tf.data.Dataset.from_tensor_slices(tf.cast(source_of(drawn, lengths), tf.int64))

    def seeds(number: tf.Tensor) -> tf.data.Dataset:
        columns = [tf.fill((total,), number), tf.range(total, dtype=tf.int64)]
        return tf.data.Dataset.from_tensor_slices(tf.stack(columns, axis=-1))

    chosen = tf.data.Dataset.choose_from_datasets(
        parts, random_numbers(seed).flat_map(choices), stop_on_empty_dataset=False
    )
    elements = tf.data.Dataset.zip(chosen, random_numbers(seed).flat_map(seeds))
    elements = elements.map(lambda element, seed_pair: (*element, seed_pair))
    elements = elements.apply(tf.data.experimental.assert_cardinality(total))
    return elements.batch(batch_size, drop_remainder=epoch.drop_remainder)


def source_of(drawn: tf.Tensor, lengths: list[int]) -> tf.Tensor:
    """Which source an image belongs to, by its number through all sources; int32."""
    ends = tf.cumsum(tf.constant(lengths, tf.int64))
    return tf.searchsorted(ends, drawn, side="right")


def _passes(
    dataset: tf.data.Dataset, size: int, count: int, seed: int, epoch: Epoch
) -> tf.data.Dataset:
    """Whole passes through a source, then a part of one: a random part if shuffled."""
    whole, rest = divmod(count, size)
    if not epoch.shuffle:
        return dataset.repeat(whole + 1).take(count)

    def kept(number: tf.Tensor) -> tf.data.Dataset:
        chosen = draw([size], [size], True, number) < rest
        return tf.data.Dataset.from_tensor_slices(chosen)

    # Taking the first images of a pass would never reach the last ones of a large source.
    some = tf.data.Dataset.zip(dataset, random_numbers(seed).flat_map(kept))
    some = some.filter(lambda *element: element[1]).map(lambda image, keep: image)
    passes = dataset.shuffle(epoch.window, seed=seed).repeat(whole) if whole else None
    if not rest and passes is not None:
        return passes
    some = some.shuffle(epoch.window, seed=seed)
    return some if passes is None else passes.concatenate(some)


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

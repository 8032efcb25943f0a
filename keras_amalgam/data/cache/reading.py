"""Batches of views with their signals, from a cache: one view of every image an epoch."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_amalgam.data.cache.manifest import Manifest
from keras_amalgam.data.epochs import Epoch, EpochNumber, draw
from keras_amalgam.data.memory import WINDOW_BYTES
from keras_amalgam.data.mixing import passes, source_of

_CHUNK = 512  # records that are parsed at once
_BUFFER = 2**20


@dataclass(frozen=True)
class Reader:
    """Reads the records of a cache, epoch by epoch.

    Args:
        folder: The cache.
        manifest: Its manifest.
        counts: Images of each source in one epoch.
        batch_size: Images per batch.
        seed: As in `SignalCache.stream`.
        epoch: As in `SignalCache.stream`.
        number: Which epoch the next pass is.
    """

    folder: Path
    manifest: Manifest
    counts: list[int]
    batch_size: int
    seed: int
    epoch: Epoch
    number: EpochNumber

    def from_memory(self) -> tf.data.Dataset:
        """Reads all views now, and draws batches from memory."""
        lengths = list(self.manifest.sources.values())
        with tf.device("CPU:0"):
            pool = _whole(self.folder, self.manifest)

        def one_pass(numbers: Any) -> tf.data.Dataset:
            drawn = draw(lengths, self.counts, self.epoch.shuffle, numbers[1])
            view = numbers[0] % self.manifest.views
            return tf.data.Dataset.from_tensor_slices(view * sum(lengths) + drawn)

        def gather(rows: tf.Tensor) -> dict[str, Any]:
            return self._batch(tf.nest.map_structure(lambda held: tf.gather(held, rows), pool))

        rows = self._batched(self.number.with_random_numbers(self.seed).flat_map(one_pass))
        return rows.map(gather, num_parallel_calls=tf.data.AUTOTUNE)

    def from_disk(self) -> tf.data.Dataset:
        """Reads one view of all images in each epoch, shuffled within windows."""
        lengths = list(self.manifest.sources.values())
        size_of_one = self.manifest.record.bytes_per_record
        most = max(1, WINDOW_BYTES // (size_of_one * len(lengths)))
        epoch = replace(self.epoch, window=min(self.epoch.window, most))

        def one_pass(numbers: Any) -> tf.data.Dataset:
            # In this function's graph alone: the order depends on `random`, not on a global seed.
            tf.compat.v1.set_random_seed(1)
            view, random = numbers[0] % self.manifest.views, numbers[1]
            parts = []
            for source, (size, count) in enumerate(zip(lengths, self.counts, strict=True)):
                files = tf.gather(_files(self.folder, self.manifest, source), view)
                records = tf.data.TFRecordDataset(files, buffer_size=_BUFFER)
                records = records.apply(tf.data.experimental.assert_cardinality(size))
                parts.append(passes(records, size, count, random + source, epoch))
            drawn = draw(lengths, self.counts, self.epoch.shuffle, random)
            chosen = tf.cast(source_of(drawn, lengths), tf.int64)
            chosen = tf.data.Dataset.from_tensor_slices(chosen)
            return tf.data.Dataset.choose_from_datasets(parts, chosen, stop_on_empty_dataset=False)

        records = self._batched(self.number.with_random_numbers(self.seed).flat_map(one_pass))
        return records.map(
            lambda held: self._batch(self.manifest.record.parsed(held)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    def _batch(self, parsed: dict[str, Any]) -> dict[str, Any]:
        return self.manifest.record.batch(parsed, with_source=self.manifest.is_named)

    def _batched(self, elements: tf.data.Dataset) -> tf.data.Dataset:
        elements = elements.apply(tf.data.experimental.assert_cardinality(sum(self.counts)))
        return elements.batch(self.batch_size, drop_remainder=self.epoch.drop_remainder)


def _whole(folder: Path, manifest: Manifest) -> Any:
    """All views of all images, view after view, in one tensor of each kind."""
    files = [
        str(folder / manifest.file_name(view, place))
        for view in range(manifest.views)
        for place in range(len(manifest.blocks))
    ]
    records = tf.data.TFRecordDataset(files, buffer_size=_BUFFER).batch(_CHUNK)
    chunks = [*records.map(manifest.record.parsed)]
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *chunks)


def _files(folder: Path, manifest: Manifest, source: int) -> tf.Tensor:
    """The shards of a source by view, `(views, shards)`."""
    places = [place for place, block in enumerate(manifest.blocks) if block.source == source]
    return tf.constant(
        [
            [str(folder / manifest.file_name(view, place)) for place in places]
            for view in range(manifest.views)
        ]
    )

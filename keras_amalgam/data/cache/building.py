"""Makes a cache: views of the images, what the teachers say of them, and shards of both."""

import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_amalgam.data.augmentation import Augmentation
from keras_amalgam.data.cache.manifest import DATASET, Manifest, Shard, sha256_of, split_name
from keras_amalgam.data.cache.records import ID, SOURCE, flat
from keras_amalgam.data.mixing import reason_of
from keras_amalgam.files.writing import whole_entries
from keras_amalgam.images.checks import check_images
from keras_amalgam.models.signals import Signals
from keras_amalgam.training.progress import in_words

# Images that pass the teachers at once. Always the same, as rounding depends on it.
BATCH = 64
# More than there are images: no two batches, in whatever views, are drawn with the same seed.
_VIEWS_APART = 2**40


@dataclass(frozen=True)
class Maker:
    """Makes the records of a cache.

    Args:
        folder: The cache.
        augmentations: By source what makes a view of an image.
        models: By teacher, from raw images to what `Signals.of` takes.
        taps: Names of the taps whose features are stored; `None` for all.
        seed: Integer that the views are drawn with.
        say: Told what was done, after every block.
    """

    folder: Path
    augmentations: Sequence[Augmentation]
    models: Mapping[str, Any]
    taps: Collection[str] | None
    seed: int
    say: Callable[[str], None]

    def make(self, manifest: Manifest, sources: Mapping[str, tf.data.Dataset]) -> Manifest:
        """Make every shard that is missing.

        All images are read, those of shards that are there too: that they are the same.

        Args:
            manifest: With what is there already.
            sources: Images of one shape and type, in an order that is always the same.

        Returns:
            The manifest of the whole cache.

        Raises:
            ValueError: If the images are not those of the shards that are there.
        """
        first, missing, began = 0, manifest.num_missing, time.monotonic()
        for number, (name, images) in enumerate(sources.items()):
            blocks = [place for place, one in enumerate(manifest.blocks) if one.source == number]
            for place, block in zip(blocks, _blocks(images, name, manifest), strict=True):
                before = manifest.num_missing
                manifest = self._make_block(manifest, place, block, name, first)
                first += len(block)
                left = manifest.num_missing
                if 0 < left < before:
                    seconds = left * (time.monotonic() - began) / (missing - left)
                    self.say(f"{name}: {left} shards to go, about {in_words(seconds)}.")
        if not has_tfds_metadata(self.folder):
            write_tfds_metadata(self.folder, manifest)
        return manifest

    def _make_block(
        self, manifest: Manifest, place: int, images: np.ndarray, name: str, first: int
    ) -> Manifest:
        digest = hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
        names = [manifest.file_name(view, place) for view in range(manifest.views)]
        if manifest.images.get(str(place), digest) != digest:
            raise ValueError(
                f"The images of source {name!r} are not those that the cache in {self.folder} was "
                f"begun with. Received: others among images {manifest.blocks[place].start} to "
                f"{manifest.blocks[place].start + len(images) - 1}. Give the same images, or "
                "another folder."
            )
        for view, one in enumerate(names):
            if one not in manifest.shards:
                shard = self._write(manifest, one, view, place, images, first)
                manifest = manifest.with_shard(one, shard, place, digest)
                manifest.write(self.folder)
        return manifest

    def _write(
        self,
        manifest: Manifest,
        file_name: str,
        view: int,
        place: int,
        images: np.ndarray,
        first: int,
    ) -> Shard:
        source = manifest.blocks[place].source
        with whole_entries(self.folder, file_name) as hidden:
            path, errors = hidden / file_name, []
            with tf.io.TFRecordWriter(str(path)) as writer:
                for start in range(0, len(images), BATCH):
                    part = images[start : start + BATCH]
                    seed = self.seed, view * _VIEWS_APART + first + start
                    views = np.asarray(self.augmentations[source](tf.constant(part), seed))
                    numbers = {
                        SOURCE: np.full(len(part), source),
                        ID: np.arange(first + start, first + start + len(part)),
                    }
                    signals = {k: np.asarray(v) for k, v in flat(self.signals(views)).items()}
                    for record in manifest.record.written(views, numbers, signals):
                        writer.write(record)
                    errors.append(manifest.record.error(signals))
            return Shard(os.path.getsize(path), sha256_of(path), max(errors))

    def signals(self, views: np.ndarray) -> dict[str, Signals]:
        """What is stored of what every teacher says of views, by teacher."""
        return {
            name: self._stored(Signals.of(model.predict_on_batch(views)))
            for name, model in self.models.items()
        }

    def _stored(self, signals: Signals) -> Signals:
        if self.taps is None:
            return signals
        kept = {tap: one for tap, one in signals.features.items() if tap in self.taps}
        return Signals(signals.answers, kept)


def _blocks(images: tf.data.Dataset, name: str, manifest: Manifest) -> Iterator[np.ndarray]:
    """The images of a source, block after block."""
    try:
        for block in images.batch(manifest.block_size).as_numpy_iterator():
            check_images(block, f"Source '{name}'")
            yield block
    except tf.errors.OpError as error:
        raise ValueError(
            f"Source '{name}' cannot be read. Received: {reason_of(error)} Mend what is named, and "
            "build again: what was made so far is kept."
        ) from error


_METADATA = ("features.json", "dataset_info.json")


def has_tfds_metadata(folder: Path) -> bool:
    """Whether `tfds.builder_from_directory` finds what it reads."""
    return all((folder / name).is_file() for name in _METADATA)


def write_tfds_metadata(folder: Path, manifest: Manifest) -> None:
    """Write what `tfds.builder_from_directory` reads: each view is a split.

    Args:
        folder: The cache, whole.
        manifest: Its manifest.
    """
    splits = []
    for view in range(manifest.views):
        template = tfds.core.ShardedFileTemplate(
            data_dir=str(folder),
            dataset_name=DATASET,
            split=split_name(view),
            filetype_suffix="tfrecord",
        )
        names = [manifest.file_name(view, place) for place in range(len(manifest.blocks))]
        splits.append(
            tfds.core.SplitInfo(
                name=split_name(view),
                shard_lengths=[block.count for block in manifest.blocks],
                num_bytes=sum(manifest.shards[name].bytes for name in names),
                filename_template=template,
            )
        )
    with whole_entries(folder, *_METADATA) as hidden:
        for name in manifest.names:
            (hidden / name).touch()  # TFDS looks whether they are there, and not inside.
        tfds.folder_dataset.write_metadata(
            data_dir=str(hidden),
            features=manifest.record.features(),
            split_infos=splits,
            check_data=False,
        )

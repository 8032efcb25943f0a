"""Signals of frozen teachers, worked out once and kept on disk."""

import dataclasses
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from keras_amalgam.data.augmentation import Augmentation
from keras_amalgam.data.cache.building import BATCH, Maker, has_tfds_metadata
from keras_amalgam.data.cache.going_on import (
    by_teacher,
    damaged_shards,
    described_teachers,
    made,
    refuse_others,
)
from keras_amalgam.data.cache.manifest import Manifest
from keras_amalgam.data.cache.reading import Reader
from keras_amalgam.data.cache.records import RecordSpec
from keras_amalgam.data.epochs import Epoch, EpochNumber, images_per_epoch
from keras_amalgam.data.memory import SHARE, free_memory
from keras_amalgam.data.prefetch import prefetched
from keras_amalgam.data.streams import augmentations_of, placed_sources
from keras_amalgam.images.canvas import Canvas, CanvasSpec
from keras_amalgam.models.student import check_names
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.text import file_size
from keras_amalgam.training.made_from import json_ready

Features = Literal["float16", "float32"]

# Bytes of a shard, about; no more than that is lost where a building ends early.
SHARD_BYTES = 64 * 2**20
VIEWS = 4

_DEFAULT_EPOCH = Epoch()


class SignalCache:
    """Views of unlabelled images, and what the teachers say of them, in a folder.

    Teachers are frozen, so that what they say of a view needs to be worked out only once. A stored
    view is shown again as it is, never drawn anew: teachers and student see the same one.

    The folder is also a data set of TFDS, a split for each view:
    `tfds.builder_from_directory(folder)`.

    Args:
        folder: Where it lies.
        manifest: What it holds.

    Example:
    ```python
    cache = data.SignalCache.build("cache", {"cars": cars, "birds": birds}, teachers, views=4)
    amalgamator.fit(cache.stream(batch_size=64), epochs=20)
    ```
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def build(
        cls,
        folder: str | Path,
        sources: Mapping[str, tf.data.Dataset] | tf.data.Dataset,
        teachers: Sequence[Teacher],
        *,
        views: int | None = None,
        canvas: CanvasSpec | None = None,
        augmentation: Augmentation | Mapping[str, Augmentation] | None = None,
        taps: Collection[str] | None = None,
        features: Features = "float16",
        seed: int = 0,
        say: Callable[[str], None] = lambda text: None,
    ) -> "SignalCache":
        """Make a cache, or what is missing of one that was begun.

        A building that ended early goes on where it was, with at most one shard lost.

        Args:
            folder: Where it is made.
            sources: As in `data.stream`. Each must know how many images it has, and give them in
                the same order every time.
            teachers: Those of the training, in its order.
            views: Number of views of each image, shown by one epoch after the other; by default 4,
                or 1 without an augmentation.
            canvas: As in `data.stream`.
            augmentation: As in `data.stream`.
            taps: Names of the teachers' taps whose features are stored, those that the terms read;
                by default all, and none for `()`. Features take most of the room.
            features: The type in which features are stored. Answers are stored in float32.
            seed: Integer that the views are drawn with.
            say: Told what there is to make, and what is left after each block of images.

        Returns:
            The whole cache.

        Raises:
            TypeError: As `data.stream`.
            ValueError: As `data.stream`; if images are mixed up, whose partners would always be the
                same; or if the folder holds a cache that was made from something else.
        """
        folder = Path(folder)
        check_names(teachers)
        named = sources if isinstance(sources, Mapping) else {"images": sources}
        placed = placed_sources(named, None if canvas is None else Canvas.parse(canvas))
        augmentations = augmentations_of(augmentation, list(named))
        if views is None:
            views = 1 if _is_plain(augmentations) else VIEWS
        _check(views, features, augmentations, placed)
        _check_taps(taps, teachers)
        spec: Any = next(iter(placed.values())).element_spec
        models = {teacher.name: teacher.signals(spec.shape[-1]) for teacher in teachers}
        maker = Maker(folder, [*augmentations.values()], models, taps, seed, say)
        blank = np.zeros((1, *spec.shape), spec.dtype.as_numpy_dtype)
        record = RecordSpec.of(blank, maker.signals(blank), features)
        settings = {
            "named": isinstance(sources, Mapping),
            "augmentation": {n: dataclasses.asdict(a) for n, a in augmentations.items()},
            "taps": None if taps is None else sorted(taps),
            "canvas": None if canvas is None else [*canvas],
            "features": features,
            "seed": seed,
        }
        wanted = Manifest(
            made_from=json_ready({"teachers": described_teachers(teachers), **settings}),
            record=record,
            sources={name: int(images.cardinality()) for name, images in placed.items()},
            views=views,
            block_size=max(BATCH, SHARD_BYTES // record.bytes_per_record),
        )
        return cls(folder, made(maker, wanted, placed))

    @classmethod
    def open(cls, folder: str | Path, teachers: Sequence[Teacher]) -> "SignalCache":
        """A cache that was made before.

        Args:
            folder: Where it lies.
            teachers: Those of the training, which must be those of the cache.

        Raises:
            ValueError: If there is no cache, it is not whole, a shard is damaged, or the teachers
                are others. Says which.
        """
        folder = Path(folder)
        manifest = Manifest.read(folder)
        refuse_others(
            folder,
            by_teacher(manifest.made_from["teachers"]),
            by_teacher(json_ready(described_teachers(teachers))),
        )
        if manifest.num_missing or not has_tfds_metadata(folder):
            raise ValueError(
                f"The cache in {folder} is not whole. Received: {manifest.num_missing} of "
                f"{len(manifest.names)} shards missing. Go on with `SignalCache.build`, given the "
                "same as before."
            )
        damaged = damaged_shards(folder, manifest)
        if damaged:
            raise ValueError(
                f"Shards of the cache in {folder} are damaged. Received: {damaged}. Go on with "
                "`SignalCache.build`, given the same as before; it makes these alone."
            )
        return cls(folder, manifest)

    def stream(
        self,
        *,
        batch_size: int,
        proportions: Mapping[str, float] | None = None,
        seed: int = 0,
        epoch: Epoch = _DEFAULT_EPOCH,
    ) -> tf.data.Dataset:
        """Batches of views with their sources and signals, for `Amalgamator.fit`.

        An epoch shows one view of every image, the next epoch the next one.

        Args:
            batch_size: As in `data.stream`.
            proportions: As in `data.stream`.
            seed: As in `data.stream`.
            epoch: As in `data.stream`. Kept in memory are all views with their signals.

        Returns:
            A finite data set of known cardinality, of batches with source, signals and ids.

        Raises:
            ValueError: As `data.stream`.
        """
        counts = images_per_epoch(self.manifest.sources, batch_size, proportions, epoch)
        number = EpochNumber()
        reader = Reader(self.folder, self.manifest, counts, batch_size, seed, epoch, number)
        stream = prefetched(reader.from_memory() if self._is_kept(epoch) else reader.from_disk())
        stream.epoch_number = number  # pyright: ignore[reportAttributeAccessIssue]
        made_from = self.manifest.made_from
        stream.signals_of = made_from["teachers"]  # pyright: ignore[reportAttributeAccessIssue]
        stream.augmentations = {  # pyright: ignore[reportAttributeAccessIssue]
            name: Augmentation(**settings) for name, settings in made_from["augmentation"].items()
        }
        if self.manifest.is_named:
            stream.source_names = tuple(self.manifest.sources)  # pyright: ignore[reportAttributeAccessIssue]
        return stream

    @property
    def error(self) -> float:
        """Largest error that storing has made in any signal, relative to the signal's norm."""
        return max(shard.error for shard in self.manifest.shards.values())

    @property
    def bytes(self) -> int:
        """What all shards take on the disk."""
        return sum(shard.bytes for shard in self.manifest.shards.values())

    def _is_kept(self, epoch: Epoch) -> bool:
        if epoch.cache is not None:
            return epoch.cache
        free = free_memory()
        fits = free is None or self.bytes <= SHARE * free
        if not fits:
            warnings.warn(
                f"The cache in {self.folder} takes {file_size(self.bytes)}, which is more than a "
                f"quarter of the {file_size(free or 0)} of memory that is free: read from disk in "
                "each epoch, shuffled within a window. Say Epoch(cache=False) if that is right, or "
                "Epoch(cache=True) to keep it nevertheless.",
                stacklevel=3,
            )
        return fits


def _check_taps(taps: Collection[str] | None, teachers: Sequence[Teacher]) -> None:
    known = {tap for teacher in teachers for tap in teacher.taps}
    if isinstance(taps, str) or set(taps or ()) - known:
        raise ValueError(
            f"`taps` must be names of the teachers' taps. Received: {taps!r}. Expected: some of "
            f"{sorted(known)}."
        )


def _is_plain(augmentations: Mapping[str, Augmentation]) -> bool:
    plain = Augmentation()
    return all(dataclasses.replace(a, fill=plain.fill) == plain for a in augmentations.values())


def _check(
    views: int,
    features: str,
    augmentations: Mapping[str, Augmentation],
    placed: Mapping[str, tf.data.Dataset],
) -> None:
    if not isinstance(views, int) or isinstance(views, bool) or views < 1:
        raise ValueError(
            f"`views` must be a positive whole number. Received: {views!r}. Give for example 4."
        )
    if features not in ("float16", "float32"):
        raise ValueError(
            f"`features` must be 'float16' or 'float32'. Received: {features!r}. Choose one."
        )
    if views > 1 and _is_plain(augmentations):
        raise ValueError(
            f"Without an augmentation all views of an image are the same. Received: {views=} and "
            "no augmentation. Give `views=1`, or an `augmentation`."
        )
    mixed = [name for name, one in augmentations.items() if one.mixup]
    if mixed:
        raise ValueError(
            "Stored images are not mixed up: an image would always meet the same partner, and what "
            f"teachers say of a mixture cannot be mixed from what they say of its parts. Received: "
            f"mixup for {mixed}. Leave it out, or train without a cache."
        )
    unknown = [name for name, images in placed.items() if int(images.cardinality()) < 0]
    if unknown:
        raise ValueError(
            f"Sources of a cache must know how many images they have. Received: {unknown}, which "
            "do not. Say it with `dataset.apply(tf.data.experimental.assert_cardinality(number))`."
        )

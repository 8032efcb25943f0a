"""A folder of unlabelled photographs, by the teachers' collections where it has them."""

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_amalgam import data
from keras_amalgam.experiments import choosing
from keras_amalgam.experiments.canvas_choice import Placed
from keras_amalgam.images.folders import Walk, walk

_END = 4096  # Bytes of a file, by which another picture of the same size is told.
NAMED_FOLDERS = 5  # In one line; a tree can have thousands.
CALIBRATION_WINDOW = 512

Sources = Mapping[str, tf.data.Dataset] | tf.data.Dataset


def has_collections(images: Path, names: Sequence[str]) -> bool:
    """Whether a folder has a sub-folder for every teacher.

    Args:
        images: The folder.
        names: The teachers'.
    """
    return all((images / name).is_dir() for name in names)


@dataclass(frozen=True)
class OwnImages:
    """The photographs below a folder.

    Args:
        found: Its files.
        collections: The teachers' names, each a sub-folder, in the order of the sources; empty if
            it is not known which collection an image is from.
        unlabelled: The images of each collection, or all as `"images"`.
    """

    found: Walk
    collections: Sequence[str]
    unlabelled: Mapping[str, tf.data.Dataset]

    @classmethod
    def below(cls, folder: Path, names: Sequence[str], channels: int) -> "OwnImages":
        """Find them.

        Args:
            folder: The folder.
            names: The teachers'.
            channels: Number of channels of every image, 1 or 3.
        """
        collections = names if has_collections(folder, names) else []
        folders = {name: folder / name for name in collections} or {"images": folder}
        unlabelled = {
            name: data.from_folder(path, channels=channels) for name, path in folders.items()
        }
        return cls(walk(folder), collections, unlabelled)

    @functools.cached_property
    def counts(self) -> Mapping[str, int]:
        """Number of images, by the names of `unlabelled`."""
        return {name: int(dataset.cardinality()) for name, dataset in self.unlabelled.items()}

    @property
    def total(self) -> int:
        """Number of images."""
        return sum(self.counts.values())

    @property
    def folders(self) -> list[Path]:
        """Where they lie."""
        return [self.found.folder / name for name in self.collections] or [self.found.folder]

    @functools.cached_property
    def left_out(self) -> Counter[str]:
        """Number of image files in no collection, by the top folder that they lie in."""
        if not self.collections:
            return Counter()
        parts = [file.relative_to(self.found.folder).parts for file in self.found.files]
        folders = [inside[0] if len(inside) > 1 else "" for inside in parts]
        return Counter(folder for folder in sorted(folders) if folder not in self.collections)

    def check_batch_size(self, batch_size: int) -> None:
        """Raise a `ValueError` if a batch has more images than there are."""
        if batch_size > self.total:
            raise ValueError(
                "A batch must not be larger than the number of images. Received: "
                f"{self.total} images below {self.found.folder}, `batch_size={batch_size}`. Lower "
                f"`batch_size` to {self.total} or less, or give more images."
            )

    def notes(self) -> list[str]:
        """What must be said of them: what is left out, what cannot be read."""
        notes = [self._left_out_note()] if self.left_out else []
        return [*notes, self.found.note()] if self.found.note() else notes

    def about(self) -> dict[str, Any]:
        """What tells them from others."""
        return {
            "number": len(self.found.files),
            "names_sizes_and_ends": self._files_print(),
            "collections": self.collections,
        }

    def kept_aside(self) -> dict[str, int]:
        """Of each collection, how many images are kept aside to choose a method by."""
        part = min(choosing.KEPT_ASIDE, choosing.MOST_KEPT_ASIDE / self.total)
        return {name: max(1, round(part * count)) for name, count in self.counts.items()}

    def streams(
        self,
        place: Placed,
        augmentation: data.Augmentation,
        batch_size: int,
        cache: bool,
        seed: int,
        workers: int | None,
        aside: Mapping[str, int],
    ) -> dict[str, Callable[[], tf.data.Dataset]]:
        """The stream to learn from, that of unaugmented images for int8, and what is kept aside.

        Args:
            place: The canvas, and how images are brought to it.
            augmentation: How the images of the first stream are changed at random.
            batch_size: Images per step.
            cache: Whether decoded images are kept in memory.
            seed: Seed of order and augmentation.
            workers: Threads that read images; `None` for one per core.
            aside: As `kept_aside` gives it, or empty.
        """
        every: Sources = self.unlabelled if self.collections else self.unlabelled["images"]
        sources, kept_aside = _parted(every, aside)
        stream = functools.partial(
            data.stream, sources, batch_size=batch_size, canvas=place, seed=seed
        )
        # Few images are calibrated with, so they are read when they are needed, not kept twice.
        few = data.Epoch(cache=False, window=CALIBRATION_WINDOW)
        return {
            "train": lambda: _read_by(
                workers, stream(augmentation=augmentation, epoch=data.Epoch(cache=cache))
            ),
            "calibration": lambda: stream(epoch=few),
            **({"kept_aside": lambda: _once(kept_aside, batch_size, place)} if aside else {}),
        }

    def _files_print(self) -> str:
        """A hash of names, sizes and last bytes: whole, thousands would take too long."""
        said = hashlib.sha256()
        for file in sorted(self.found.files):
            name, size = file.relative_to(self.found.folder), file.stat().st_size
            said.update(f"{name} {size}\n".encode())
            with open(file, "rb") as content:
                content.seek(-min(_END, size), os.SEEK_END)
                said.update(content.read())
        return said.hexdigest()[:16]

    def _left_out_note(self) -> str:
        folder = self.found.folder
        where = [f"{folder / inside} ({count})" for inside, count in self.left_out.items()]
        more = len(where) - NAMED_FOLDERS
        named = ", ".join(where[:NAMED_FOLDERS]) + (f" and {more} more folders" if more > 0 else "")
        total = self.left_out.total()
        return f"Images left out, as in no teacher's sub-folder: {total}, in {named}."


def _parted(sources: Sources, aside: Mapping[str, int]) -> tuple[Sources, Sources]:
    """What is learned from and what is kept aside, which comes first in the files' mixed order."""
    if isinstance(sources, tf.data.Dataset):
        number = sum(aside.values())
        return (sources.skip(number), sources.take(number)) if aside else (sources, sources)
    return (
        {name: images.skip(aside.get(name, 0)) for name, images in sources.items()},
        {name: images.take(aside.get(name, 0)) for name, images in sources.items()},
    )


def _once(sources: Sources, batch_size: int, place: Placed) -> tf.data.Dataset:
    """Every image once, unchanged, in one order; read when they are needed."""
    every = data.Epoch(shuffle=False, drop_remainder=False, cache=False)
    return data.stream(sources, batch_size=batch_size, canvas=place, epoch=every)


def _read_by(workers: int | None, stream: tf.data.Dataset) -> tf.data.Dataset:
    if workers is None:
        return stream
    options = tf.data.Options()
    options.threading.private_threadpool_size = workers
    return stream.with_options(options)

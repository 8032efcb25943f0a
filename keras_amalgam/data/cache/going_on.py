"""What there is of a cache already, whether it may be gone on with, and what is missing of it."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_amalgam.data.cache.building import Maker
from keras_amalgam.data.cache.manifest import DATASET, NAME, Manifest, sha256_of
from keras_amalgam.files.writing import folders
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.text import file_size
from keras_amalgam.training.made_from import json_ready, of_architecture, of_teachers

# What names and checksums of a record take beside its tensors, about.
RECORD_BYTES = 300
LOCK = ".lock"


def made(maker: Maker, wanted: Manifest, sources: Mapping[str, tf.data.Dataset]) -> Manifest:
    """Make what is missing of a cache; of one of which nothing could be made, nothing stays.

    Args:
        maker: Makes the shards.
        wanted: The manifest of the cache, without shards.
        sources: Images of one shape and type, in an order that is always the same.

    Returns:
        The manifest of the whole cache.

    Raises:
        OSError: If the disk has no room for it.
        ValueError: If the folder holds something else, or another process is at it.
    """
    folder = maker.folder
    with folders(folder), _alone_in(folder):
        manifest = _begun(folder, wanted)
        if manifest.num_missing:
            needed = _bytes_missing(manifest)
            _check_room(folder, needed)
            maker.say(f"{manifest.num_missing} shards to make, about {file_size(needed)}.")
            manifest.write(folder)
        try:
            return maker.make(manifest, sources)
        except BaseException:
            if not any(folder.glob(f"{DATASET}-*")):
                (folder / NAME).unlink(missing_ok=True)
            raise


def _bytes_missing(manifest: Manifest) -> int:
    """About how many bytes the shards that are missing will have."""
    records = sum(manifest.sources.values()) * manifest.views
    missing = manifest.num_missing / len(manifest.names)
    return int(records * missing * (manifest.record.bytes_per_record + RECORD_BYTES))


def _check_room(folder: Path, needed: int) -> None:
    """Refuse a disk that what is missing would fill."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"{file_size(needed)} of signals do not fit on the disk, which has {file_size(free)} "
            "free. Make room, or store fewer views, or a smaller canvas",
            str(folder),
        )


def damaged_shards(folder: Path, manifest: Manifest) -> list[str]:
    """Names of shards that are gone or whose bytes are not those that were written."""
    return [
        name
        for name, shard in manifest.shards.items()
        if not (path := folder / name).is_file()
        or path.stat().st_size != shard.bytes
        or sha256_of(path) != shard.sha256
    ]


def _begun(folder: Path, wanted: Manifest) -> Manifest:
    """What is there already of the cache that is wanted, without damaged shards."""
    left = [path for path in folder.iterdir() if _is_left_behind(path)]
    if not (folder / NAME).exists():
        others = [path.name for path in folder.iterdir() if path not in left and path.name != LOCK]
        if others:
            raise ValueError(
                f"A cache needs a folder of its own. Received: {folder}, which holds {others[:3]}. "
                "Give an empty or a new one."
            )
        found = wanted
    else:
        found = Manifest.read(folder)
        if not found.shards:  # Nothing is lost if it is begun with something else.
            found = wanted
        refuse_others(folder, _described(found), _described(wanted))
    for path in left:
        shutil.rmtree(path)
    return found.without(damaged_shards(folder, found))


def _is_left_behind(path: Path) -> bool:
    """Whether it is what a process left that was killed while it wrote."""
    prefixes = tuple(f".{name}-" for name in (DATASET, NAME, "dataset_info.json"))
    return path.name.startswith(prefixes) and path.is_dir() and not path.is_symlink()


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Refuse a second process that makes the same cache; a lock ends with its process."""
    try:
        import fcntl
    except ImportError:  # On Windows.
        yield
        return
    path = folder / LOCK
    with path.open("w") as lock:
        refusal = ValueError(
            f"Another process is making the cache in {folder}. Wait until it has ended, or give "
            "another folder."
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise refusal from error
        # One that ended just now has taken its file away, and a third one may have made another.
        if not path.exists() or not os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            raise refusal
        try:
            yield
        finally:
            path.unlink()


def described_teachers(teachers: Sequence[Teacher]) -> dict[str, Any]:
    """What must be the same of each teacher: equal weights may be those of other layers."""
    entries = of_teachers(teachers)
    return {
        teacher.name: entries[teacher.name]
        | ({"architecture": of_architecture(teacher.model)} if teacher.in_graph else {})
        for teacher in teachers
    }


def by_teacher(entries: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the teachers, one by one, so that a difference can be named."""
    return {"teachers": list(entries)} | {
        f"{key} of teacher {name!r}": value
        for name, entry in entries.items()
        for key, value in entry.items()
    }


def _described(manifest: Manifest) -> dict[str, Any]:
    others = {key: value for key, value in manifest.made_from.items() if key != "teachers"}
    return json_ready(
        {
            **by_teacher(manifest.made_from["teachers"]),
            **others,
            "images by source": [*manifest.sources.items()],
            "views": manifest.views,
            "images": manifest.record.image,
            "signals": manifest.record.signals,
            "images of a shard": manifest.block_size,
        }
    )


def refuse_others(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise a `ValueError` that names what differs between a cache and what is wanted.

    Args:
        folder: The cache.
        found: What it was made from, by what a user would call it.
        wanted: The same of what is wanted.
    """
    differing = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    if differing:
        pairs = "; ".join(f"{key}: {wanted.get(key)}, was {found.get(key)}" for key in differing)
        raise ValueError(
            f"The cache in {folder} was made from something else. Received: {pairs:.2000}. Give "
            "the same as then, or another folder."
        )

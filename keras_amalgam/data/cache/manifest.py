"""What a cache was made from and which of its shards are there, in a file beside them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from keras_amalgam.data.cache.records import RecordSpec
from keras_amalgam.files.writing import write_text

NAME = "cache.json"
VERSION = 1
DATASET = "signals"

_CHUNK = 2**20


@dataclass(frozen=True)
class Block:
    """Images of one source that come one after the other, all views of which are made together.

    Args:
        source: Number of the source.
        start: Number of the first image within the source.
        count: Number of images.
    """

    source: int
    start: int
    count: int


@dataclass(frozen=True)
class Shard:
    """A file that is there.

    Args:
        bytes: Its size.
        sha256: Of its bytes.
        images_sha256: Of the images before they were changed at random.
        error: What storing signals cost there: the largest error as a part of a signal's size.
    """

    bytes: int
    sha256: str
    images_sha256: str
    error: float


@dataclass(frozen=True)
class Manifest:
    """A cache's file of contents.

    Args:
        made_from: What the cache depends on, JSON-ready: with anything else it is another one.
        record: What every record holds.
        sources: Number of images by source.
        views: Number of views of each image.
        block_size: Most images of a shard.
        shards: Those that are there, by file name.
    """

    made_from: Mapping[str, Any]
    record: RecordSpec
    sources: Mapping[str, int]
    views: int
    block_size: int
    shards: Mapping[str, Shard] = field(default_factory=dict)

    @property
    def blocks(self) -> list[Block]:
        """All blocks, source after source."""
        return [
            Block(number, start, min(self.block_size, size - start))
            for number, size in enumerate(self.sources.values())
            for start in range(0, size, self.block_size)
        ]

    def file_name(self, view: int, block: int) -> str:
        """The name of the shard with one view of a block's images, as TFDS expects it."""
        of = len(self.blocks)
        return f"{DATASET}-{split_name(view)}.tfrecord-{block:05d}-of-{of:05d}"

    @property
    def missing(self) -> list[str]:
        """Names of the shards that are not there."""
        names = (
            self.file_name(view, block)
            for block in range(len(self.blocks))
            for view in range(self.views)
        )
        return [name for name in names if name not in self.shards]

    def with_shards(self, shards: Mapping[str, Shard]) -> "Manifest":
        """The same with more shards."""
        return replace(self, shards={**self.shards, **shards})

    def without(self, names: Iterable[str]) -> "Manifest":
        """The same without some shards."""
        gone = set(names)
        return replace(self, shards={n: s for n, s in self.shards.items() if n not in gone})

    def write(self, folder: Path) -> None:
        """Write the file, whole or not at all."""
        content = {
            "version": VERSION,
            "made_from": self.made_from,
            "record": self.record.to_config(),
            "sources": self.sources,
            "views": self.views,
            "block_size": self.block_size,
            "shards": {name: asdict(shard) for name, shard in self.shards.items()},
        }
        write_text(folder / NAME, json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the file.

        Raises:
            ValueError: If it is missing, damaged or of another version.
        """
        path = folder / NAME
        if not path.is_file():
            raise ValueError(
                f"There is no cache of signals. Received: {folder}, without a {NAME}. Make one "
                "with `keras_amalgam.data.SignalCache.build`."
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            version = content["version"]
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(path, error) from error
        if version != VERSION:
            raise ValueError(
                f"The cache in {folder} is of another version. Received: {version!r}. Expected: "
                f"{VERSION}. Make it anew."
            )
        try:
            return cls(
                made_from=dict(content["made_from"]),
                record=RecordSpec.from_config(content["record"]),
                sources={str(name): _positive(size) for name, size in content["sources"].items()},
                views=_positive(content["views"]),
                block_size=_positive(content["block_size"]),
                shards={name: Shard(**one) for name, one in content["shards"].items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _damaged(path, error) from error


def split_name(view: int) -> str:
    """The split of TFDS that holds one view of all images."""
    return f"view{view}"


def sha256_of(path: Path) -> str:
    """Of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _positive(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{value!r} is not a positive whole number")
    return value


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is damaged or was edited. Received: {type(error).__name__}: {error}. Delete the "
        "folder and make the cache anew."
    )

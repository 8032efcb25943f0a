"""What a cache was made from and which of its shards are there, in a file beside them."""

import functools
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
        sha256: Hash of its bytes.
        error: What storing signals cost there: the largest error as a part of a signal's size.
    """

    bytes: int
    sha256: str
    error: float

    def __post_init__(self) -> None:
        """Refuse what no building writes."""
        _positive(self.bytes)
        if not isinstance(self.sha256, str) or not isinstance(self.error, (int, float)):
            raise ValueError(f"{self} is no shard")


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
        images: SHA-256 of the images of each block, before they were changed at random, by the
            block's place; of blocks of which a shard was made.
    """

    made_from: Mapping[str, Any]
    record: RecordSpec
    sources: Mapping[str, int]
    views: int
    block_size: int
    shards: Mapping[str, Shard] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
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
    def is_named(self) -> bool:
        """Whether the sources have names, so that it means something which one an image is from."""
        return bool(self.made_from["named"])

    @property
    def names(self) -> list[str]:
        """Names of all shards."""
        places = range(len(self.blocks))
        return [self.file_name(view, place) for place in places for view in range(self.views)]

    @property
    def num_missing(self) -> int:
        """Number of shards that are not there."""
        return len(self.blocks) * self.views - len(self.shards)

    def with_shard(self, name: str, shard: Shard, place: int, images: str) -> "Manifest":
        """The same with one more shard.

        Args:
            name: Name of its file.
            shard: What is known of it.
            place: Place of its block among all.
            images: SHA-256 of the block's images.
        """
        return replace(
            self,
            shards={**self.shards, name: shard},
            images={**self.images, str(place): images},
        )

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
            "images": self.images,
        }
        content["sha256"] = _digest(content)
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
            if content.pop("sha256") != _digest(content):
                raise ValueError("its content is not what its hash says")
            found = cls(
                made_from=dict(content["made_from"]),
                record=RecordSpec.from_config(content["record"]),
                sources={str(name): _positive(size) for name, size in content["sources"].items()},
                views=_positive(content["views"]),
                block_size=_positive(content["block_size"]),
                shards={name: Shard(**one) for name, one in content["shards"].items()},
                images=dict(content["images"]),
            )
            if strangers := set(found.shards) - set(found.names):
                raise ValueError(f"no shards of this cache: {sorted(strangers)[:3]}")
            return found
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _damaged(path, error) from error


def split_name(view: int) -> str:
    """The split of TFDS that holds one view of all images."""
    return f"view{view}"


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    others = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def _positive(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{value!r} is not a positive whole number")
    return value


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is damaged or was edited. Received: {type(error).__name__}: {error}. Delete the "
        "folder and make the cache anew."
    )

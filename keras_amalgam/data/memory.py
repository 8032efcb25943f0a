"""How much memory decoded images take, and how much of it is free."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_amalgam.text import file_size

# Reading holds images up to three times: as chunks, as sources and as one pool.
SHARE = 0.25
# Of a window to shuffle within, for all sources together. The same on every machine and whatever is
# free: the order of the images depends on it.
WINDOW_BYTES = 2**30

_MEMORY_INFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class ControlGroup:
    """Where a Linux container says how much memory it may take.

    Args:
        folder: The folder with the group's files.
        limit: Name of the file with the bytes that the container may take.
        used: Name of the file with the bytes that it takes, cached files included.
        prefix: What the names to count in `memory.stat` begin with.
    """

    folder: Path
    limit: str
    used: str
    prefix: str = ""

    def free(self) -> int | None:
        """Bytes until the limit; what is kept of files counts as free. None without a limit."""
        try:
            limit, used = (
                int((self.folder / name).read_text()) for name in (self.limit, self.used)
            )
            lines = (self.folder / "memory.stat").read_text().splitlines()
            counts = dict(line.split() for line in lines)
        except (OSError, ValueError):  # Not in such a container, or "max".
            return None
        kept = (counts.get(f"{self.prefix}{kind}_file", 0) for kind in ("active", "inactive"))
        return max(1, limit - used + sum(map(int, kept)))


_CONTROL_GROUPS = (
    ControlGroup(Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    ControlGroup(
        Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"
    ),
)


@dataclass(frozen=True)
class Footprint:
    """What the decoded images of a stream would take.

    Args:
        num_images: Number of images in all sources together.
        shape: `(height, width, channels)` of each.
        bytes_per_value: 1 for `uint8`, 4 for `float32`.
        free: Memory that is free, in bytes; None if it is not known.

    Example:
        >>> print(Footprint(12_000, (256, 256, 3)).sentence)
    """

    num_images: int
    shape: tuple[int, int, int]
    bytes_per_value: int = 1
    free: int | None = None

    @classmethod
    def of(cls, datasets: Iterable[tf.data.Dataset], free: int | None) -> "Footprint":
        """That of unbatched images of one known shape and type."""
        datasets = list(datasets)
        spec: Any = datasets[0].element_spec
        # A source that does not know how many it has is counted when it is read.
        count = sum(max(0, int(dataset.cardinality())) for dataset in datasets)
        return cls(count, tuple(spec.shape), spec.dtype.size, free)

    @property
    def bytes_per_image(self) -> int:
        """Of one image, decoded."""
        return math.prod(self.shape) * self.bytes_per_value

    @property
    def fits(self) -> bool:
        """Whether all images take at most a quarter of the free memory, or that is not known."""
        return self.free is None or self.num_images * self.bytes_per_image <= SHARE * self.free

    def window(self, most: int, num_sources: int) -> int:
        """Images of each source that a window may hold, at least one."""
        return max(1, min(most, WINDOW_BYTES // (self.bytes_per_image * num_sources)))

    @property
    def sentence(self) -> str:
        """What is done with the images, and why, for people."""
        if self.fits:
            return f"{self._decoded}: kept in memory."
        return (
            f"{self._decoded}, which is more than a quarter of the {file_size(self.free or 0)} of "
            "memory that is free: read anew from disk in each epoch, shuffled within a window."
        )

    def sentence_of_run(self, kept: bool) -> str:
        """What is done with the images of a run that was begun, for people.

        Args:
            kept: Whether they are kept in memory; the order of the images depends on it.
        """
        done = "kept in memory" if kept else "read anew from disk in each epoch"
        return f"{self._decoded}: {done}, as when the run was begun."

    @property
    def _decoded(self) -> str:
        height, width, channels = self.shape
        size = file_size(self.num_images * self.bytes_per_image)
        return f"{self.num_images:,} images of {height} × {width} × {channels}, {size} decoded"


def free_memory() -> int | None:
    """Bytes that this process could still take, within its container's limit; None if unknown."""
    free = [_of_machine(), *(group.free() for group in _CONTROL_GROUPS)]
    return min((number for number in free if number is not None), default=None)


def _of_machine() -> int | None:
    if _MEMORY_INFO.exists():
        for line in _MEMORY_INFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Not on Windows.
        return None

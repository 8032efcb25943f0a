"""How much memory decoded images take, and how much of it is free."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

# Reading holds images up to three times: as chunks, as sources and as one pool.
SHARE = 0.25

_MEMORY_INFO = Path("/proc/meminfo")
# Of a container: cgroup's second version, then its first.
_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


@dataclass(frozen=True)
class Footprint:
    """What the decoded images of a stream would take.

    Args:
        num_images: Of all sources together.
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
        spec = datasets[0].element_spec
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
        """Images of each source that a window can hold in that share of memory, at least one."""
        if self.free is None:
            return most
        room = SHARE * self.free / (self.bytes_per_image * num_sources)
        return max(1, min(most, int(room)))

    @property
    def sentence(self) -> str:
        """What is done with the images, and why, for people."""
        height, width, channels = self.shape
        needed = self.num_images * self.bytes_per_image
        start = f"{self.num_images:,} images of {height} × {width} × {channels}, {_size(needed)}"
        if self.fits:
            return f"{start} decoded: kept in memory."
        return (
            f"{start} decoded, which is more than a quarter of the {_size(self.free or 0)} of "
            "memory that is free: read anew from disk in each epoch, shuffled within a window."
        )


def free_memory() -> int | None:
    """Bytes that this process could still take, within its container's limit; None if unknown."""
    free = [number for number in (_of_machine(), *map(_of_container, _LIMITS)) if number]
    return min(free, default=None)


def _of_machine() -> int | None:
    if _MEMORY_INFO.exists():
        for line in _MEMORY_INFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Not on Windows.
        return None


def _of_container(files: tuple[str, str]) -> int | None:
    try:
        limit, used = (Path(file).read_text().strip() for file in files)
        return max(1, int(limit) - int(used))
    except (OSError, ValueError):  # No such container, or "max": without a limit.
        return None


def _size(number: float) -> str:
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"

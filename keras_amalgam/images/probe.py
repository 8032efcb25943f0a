"""Images that show what a network does to single pixels, and what is read off its tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

# A tensor's largest error as a share of its spread: that of half precision (bfloat16) on plain
# colours; on random images, which only tell what is no arithmetic, that of whole pixels as well.
_PLAIN, _RANDOM = 5e-3, 1e-2
_CONSTANT = -1
# More numbers for one channel than there are colours are features, learned ones perhaps.
_MOST_PARTS = 3

Numbers = dict[int, tuple[float, float]]
"""Channel to scale and offset."""


@dataclass(frozen=True)
class Reading:
    """A tensor of which every element is one channel of the image, times a factor, plus a number.

    Args:
        source: The channel that each element is made of, -1 for constants such as a padding;
            shape of the tensor without the batch.
        scale: The factor of each element, in the same shape.
        offset: The number added to each.
    """

    source: np.ndarray
    scale: np.ndarray
    offset: np.ndarray

    @property
    def by_channel(self) -> dict[int, tuple[float, float]]:
        """Scale and offset of every channel that the tensor is made of."""
        found = {}
        for channel in np.unique(self.source[self.source != _CONSTANT]):
            where = self.source == channel
            found[int(channel)] = (
                float(self.scale[where].mean()),
                float(self.offset[where].mean()),
            )
        return found

    @property
    def order(self) -> tuple[int, ...]:
        """The channels in the order in which they stand along the axis that tells them apart."""
        for axis in range(self.source.ndim - 1, -1, -1):
            rows = np.moveaxis(self.source, axis, -1).reshape(-1, self.source.shape[axis])
            row = rows.max(axis=0)
            if np.all((rows == row) | (rows == _CONSTANT)):
                return tuple(int(c) for c in dict.fromkeys(row) if c != _CONSTANT)
        return tuple(self.by_channel)

    @property
    def is_uniform(self) -> bool:
        """Whether all elements that a channel is made into have its scale and offset."""
        for channel, (scale, offset) in self.by_channel.items():
            where = self.source == channel
            if _differ(self.scale[where], scale, 2 * _PLAIN * abs(scale)):
                return False
            if _differ(self.offset[where], offset, 2 * _PLAIN * max(abs(offset), 255 * abs(scale))):
                return False
        return True

    @property
    def parts(self) -> "tuple[Reading, ...]":
        """Readings of which each is uniform; none where no few of them are the whole.

        Grey that became three channels, each with numbers of its own, has three.
        """
        if self.is_uniform:
            return (self,)
        for axis, size in enumerate(self.source.shape):
            if size <= _MOST_PARTS:
                places = np.arange(size).reshape(
                    [-1 if a == axis else 1 for a in range(self.source.ndim)]
                )
                parts = [
                    replace(self, source=np.where(places == place, self.source, _CONSTANT))
                    for place in range(size)
                ]
                if all(part.is_uniform for part in parts):
                    return tuple(parts)
        return ()


class Probe:
    """Plain colours, from which the numbers are read, and random images, on which they must hold.

    Args:
        shape: `(height, width, channels)` of the images.
        top: The brightest value: 255, with whole numbers only, or 1.

    Attributes:
        images: Shape `(2 * channels + 5, *shape)`, float32: black, each channel alone at the top,
            grey, a random image, the same with each of its channels replaced in turn by
            another's, that other, and the mean of both.
    """

    def __init__(self, shape: tuple[int, int, int], top: float = 255.0) -> None:
        channels = shape[-1]
        self._top, self._grey = top, 128 / 255 * top
        plain = [np.zeros(shape), *(np.full(shape, top) * row for row in np.eye(channels))]
        plain.append(np.full(shape, self._grey))
        # Even numbers have a mean that is whole as well.
        first, other = 2 * np.random.default_rng(0).integers(0, 128, (2, *shape)) * (top / 255)
        replaced = [np.where(np.arange(channels) == c, other, first) for c in range(channels)]
        images = [*plain, first, *replaced, other, (first + other) / 2]
        self.images = np.asarray(images, "float32")
        self._channels = channels

    def reading(self, values: np.ndarray) -> Reading | None:
        """What a tensor is made of.

        Args:
            values: The tensor for `images`, the batch first.

        Returns:
            The reading; `None` if some element is more than one channel, a factor and a number,
            or if a channel's elements differ in these other than by their place on a short axis.
        """
        if values.shape[:1] != self.images.shape[:1] or values.dtype.kind not in "fiu":
            return None
        values = values.astype(np.float32)
        plain, (first, *replaced, other, middle) = np.split(values, [self._channels + 2])
        if not np.all(np.isfinite(values)):
            return None
        spread = float(np.ptp(plain))
        offset, slopes = plain[0], (plain[1:-1] - plain[0]) / self._top
        is_made_of = np.abs(slopes) * self._top > _PLAIN * spread
        grey = offset + self._grey * slopes.sum(axis=0)
        if _differ(plain[-1], grey, _PLAIN * spread):
            return None
        if _differ(middle, (first + other) / 2, _RANDOM * spread):
            return None
        for channel, changed in enumerate(replaced):
            without = ~is_made_of[channel]
            if _differ(changed[without], first[without], _RANDOM * spread):
                return None
        reading = self._read(slopes, offset, is_made_of)
        return reading if reading is not None and reading.parts else None

    def _read(self, slopes: np.ndarray, offset: np.ndarray, made: np.ndarray) -> Reading | None:
        number = made.sum(axis=0)
        if number.max(initial=0) > 1:
            # Grey of colours: the same mixture everywhere counts as one channel.
            mixture = slopes.reshape(self._channels, -1)
            total = mixture.sum(axis=0)
            is_grey = np.abs(total).min() > _PLAIN * np.abs(mixture).max()  # No difference of two.
            if number.min() < 2 or not is_grey:
                return None
            shares = mixture / total
            if _differ(shares, shares[:, :1], _PLAIN * np.abs(shares).max()):
                return None
            return Reading(np.zeros_like(number), slopes.sum(axis=0), offset)
        source = np.where(number == 1, made.argmax(axis=0), _CONSTANT)
        return Reading(source, np.where(made, slopes, 0).sum(axis=0), offset)

    def is_of_single_pixels(
        self, given: np.ndarray, made: np.ndarray, before: Reading, after: Reading
    ) -> bool:
        """Whether each element is made of the element at its own place, and of no neighbour.

        Args:
            given: A tensor for `images`.
            made: Another that an operation made of it.
            before: The reading of `given`.
            after: The reading of `made`.
        """
        if given.shape != made.shape or np.any(before.source != after.source):
            return False
        factor = after.scale / np.where(before.source == _CONSTANT, 1, before.scale)
        expected = given * factor + (after.offset - before.offset * factor)
        return not _differ(made, expected, _RANDOM * float(np.ptp(made)))


def merged(readings: Sequence[Reading]) -> tuple[Numbers, tuple[int, ...]] | None:
    """Scale and offset of every channel, and the channels' order, as all readings say them.

    Args:
        readings: Readings of tensors side by side, such as an image and its padded copy.

    Returns:
        `None` if they contradict each other, or say nothing.
    """
    numbers: Numbers = {}
    for reading in readings:
        for channel, known in reading.by_channel.items():
            if not np.allclose(known, numbers.setdefault(channel, known), rtol=1e-3):
                return None
    orders = {reading.order for reading in readings if len(reading.order) == len(numbers)}
    if not numbers or len(orders) > 1:
        return None
    return numbers, orders.pop() if orders else tuple(sorted(numbers))


def grouped(readings: Sequence[Reading]) -> list[list[Reading]]:
    """Readings that do not contradict each other together, each in the first group that it fits.

    Args:
        readings: Uniform ones, of tensors at which a normalisation ends.
    """
    groups: list[list[Reading]] = []
    for reading in readings:
        fitting = (group for group in groups if merged([*group, reading]) is not None)
        group = next(fitting, None)
        if group is not None:
            group.append(reading)
        elif merged([reading]) is not None:  # Constants alone, such as a padding, say nothing.
            groups.append([reading])
    return groups


def _differ(one: np.ndarray, other: np.ndarray | float, most: float) -> bool:
    return bool(np.abs(one - other).max(initial=0) > most + 1e-6)

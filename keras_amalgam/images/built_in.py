"""What a network does to every pixel before anything learned, and what may go in front of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from keras_amalgam.images.preprocessing import Preprocessing

Range = Literal["0..255", "0..1", "-1..1"]
RANGES: dict[Range, tuple[float, float]] = {
    "0..255": (0.0, 255.0),
    "0..1": (0.0, 1.0),
    "-1..1": (-1.0, 1.0),
}

# Pixels in 0..255 deviate by about 60 and are centred about 120; those in 0..1 by a 255th of that.
_PIXEL_SPREAD = 16.0
_MIN_SPREAD = 1 / _PIXEL_SPREAD
# ImageNet's means of red, green and blue, as shares of 255; those of other photographs are near.
_IMAGENET_MEAN = np.array((0.485, 0.456, 0.406))
_TOLERANCE = 2e-3
# A mean is more than this share of the range: rounding in a quantised network makes as much of 0.
_MIN_MEAN = 0.01
# ImageNet's standardised pixels lie in ±2.7, so that nothing greater is a spread of theirs. Their
# largest mean is far below 1.5.
_MAX_STANDARDISED_SPREAD, _MAX_STANDARDISED_MEAN = 4.0, 1.5


@dataclass(frozen=True)
class BuiltIn:
    """The normalisation inside a network, as measured: `pixel * scale + offset` per channel.

    Args:
        scale: Factor on each of the input's channels, in their order there.
        offset: Added after it, in the same order.
        order: The input's channels in the order in which they leave: `(2, 1, 0)` where red and
            blue change places.
        learned: Whether running statistics of a batch normalisation are a part of it, so that the
            numbers are those of the training images rather than somebody's choice.

    Example:
    ```python
    caffe = BuiltIn((1.0, 1.0, 1.0), (-123.68, -116.779, -103.939), order=(2, 1, 0))
    print(caffe, caffe.expects)  # BGR: pixels - (103.939, 116.779, 123.68) 0..255
    ```
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    order: tuple[int, ...]
    learned: bool = False

    @property
    def mean(self) -> tuple[float, ...]:
        """What is subtracted before dividing by `std`, in units of the input."""
        return tuple(0.0 - o / s for s, o in zip(self.scale, self.offset, strict=True))

    @property
    def std(self) -> tuple[float, ...]:
        """What is divided by, in units of the input."""
        return tuple(1 / s for s in self.scale)

    @property
    def changes_nothing(self) -> bool:
        """Whether what leaves is what came, up to the epsilon of a fresh batch normalisation."""
        return (
            np.allclose(self.scale, 1.0, rtol=0, atol=_TOLERANCE)
            and np.allclose(self.offset, 0.0, atol=_TOLERANCE)
            and not self.turns_colours
        )

    @property
    def turns_colours(self) -> bool:
        """Whether red and blue change places."""
        return self.order == (2, 1, 0)

    @property
    def centres(self) -> bool:
        """Whether a mean is subtracted, rather than nothing but a factor applied."""
        return bool(np.abs(self.mean).max() > _MIN_MEAN)

    @property
    def expects(self) -> Range | None:
        """The range of pixels that the numbers are made for; `None` where they do not tell."""
        mean, std = np.asarray(self.mean), np.abs(self.std)
        if std.max() >= _PIXEL_SPREAD or np.abs(mean).max() >= _PIXEL_SPREAD:
            return "0..255"
        if self.centres and _is_of_dark_levels(mean, std):
            return "0..255"
        enlarges = std.max() <= _MIN_SPREAD
        if np.all(mean >= (0 if enlarges else 0.1)) and np.all(mean <= 1) and std.max() <= 1.01:
            return "0..1"
        if self.centres and _is_of_dark_shares(mean, std):
            return "0..1"
        halves = np.allclose(std, 2.0, rtol=0.05)
        if np.allclose(mean, -1.0, atol=0.05) and (halves or enlarges):
            return "-1..1"
        return None

    @property
    def takes_bgr(self) -> bool | None:
        """Whether ImageNet's means meet the channels in the order blue, green, red.

        `None` where the means are others, so that they do not tell.
        """
        if len(self.mean) != 3 or self.expects not in ("0..255", "0..1"):
            return None
        means = np.asarray(self.mean) / (255 if self.expects == "0..255" else 1)
        for is_bgr, known in ((False, _IMAGENET_MEAN), (True, _IMAGENET_MEAN[::-1])):
            if np.allclose(means, known, atol=0.01):
                return is_bgr
        return None

    def __str__(self) -> str:
        """The arithmetic in the order in which channels leave, as `pixels / 127.5 - 1`."""
        colours = "BGR: " if self.turns_colours else ""
        scale, offset = (_ordered(v, self.order) for v in (self.scale, self.offset))
        if np.allclose(offset, 0.0, atol=1e-9):
            return colours + _times("pixels", scale)
        shifts = _numbers(offset)
        if "(" not in _numbers(scale) + shifts and 0 < scale[0] <= 1:
            sign = "-" if offset[0] < 0 else "+"
            return f"{colours}{_times('pixels', scale)} {sign} {shifts.lstrip('-')}"
        centred = f"pixels - {_numbers(_ordered(self.mean, self.order))}"
        return colours + _times(centred if np.allclose(scale, 1.0) else f"({centred})", scale)

    def to_config(self) -> dict[str, Any]:
        """The numbers and what they tell, as JSON-ready values."""
        return {
            "does": str(self),
            "expects": self.expects,
            "mean": list(self.mean),
            "std": list(self.std),
            "order": list(self.order),
            "learned": self.learned,
        }

    def preprocessing(self) -> Preprocessing | None:
        """What goes in front of the network, as far as its numbers tell.

        Returns:
            The scale that leads from 0..255 to what the network expects; `None` where the numbers
            do not tell the range, or are those of images in the order blue, green, red.
        """
        return None if self.takes_bgr or not self.tells else _to_range(self.expects)

    @property
    def tells(self) -> bool:
        """Whether the numbers tell the range; running statistics may be of centred images."""
        return self.expects == "0..255" or (self.expects is not None and not self.learned)


@dataclass(frozen=True)
class SeveralWays:
    """Normalisations inside a network that no one set of numbers describes.

    Branches that differ, as in an ensemble, or one grey channel that becomes three with numbers of
    their own.

    Args:
        ways: Each normalisation once, that of a branch without any included.

    Example:
    ```python
    unit = BuiltIn((1 / 255,), (0.0,), order=(0,))
    untouched = BuiltIn((1.0,), (0.0,), order=(0,))
    print(SeveralWays((unit, untouched)))  # pixels / 255; pixels
    ```
    """

    ways: tuple[BuiltIn, ...]

    @property
    def expects(self) -> Range | None:
        """The range that the ways tell; 0..255 before all others, `None` if none tells."""
        # Large numbers are of nothing but 0..255, while small ones can be of more than one range.
        ranges = {way.expects for way in self.ways if way.tells}
        return next((known for known in RANGES if known in ranges), None)

    @property
    def takes_bgr(self) -> bool | None:
        """Whether ImageNet's means meet the order blue, green, red in some way."""
        orders = {way.takes_bgr for way in self.ways} - {None}
        return any(orders) if orders else None

    @property
    def turns_colours(self) -> bool:
        """Whether red and blue change places in every way."""
        return all(way.turns_colours for way in self.ways)

    def __str__(self) -> str:
        """The arithmetic of each way, as in `pixels / 255; pixels / 127.5 - 1`."""
        return "; ".join(str(way) for way in self.ways)

    def to_config(self) -> dict[str, Any]:
        """The ways and what they tell, as JSON-ready values."""
        ways = [way.to_config() for way in self.ways]
        return {"does": str(self), "expects": self.expects, "ways": ways}

    def preprocessing(self) -> Preprocessing | None:
        """What goes in front of the network, as far as its ways tell."""
        return None if self.takes_bgr or self.expects is None else _to_range(self.expects)


def _is_of_dark_levels(mean: np.ndarray, std: np.ndarray) -> bool:
    """Whether the numbers are too great for 0..1, -1..1 and standardised pixels alike."""
    of_great_mean = mean.max() > _MAX_STANDARDISED_MEAN and std.max() > 1
    return bool(of_great_mean or std.max() > _MAX_STANDARDISED_SPREAD)


def _is_of_dark_shares(mean: np.ndarray, std: np.ndarray) -> bool:
    """Whether the numbers are a mean and a spread that numbers in 0..1 can have."""
    # The variance in 0..1 is at most mean * (1 - mean) (Bhatia and Davis, 2000). For a mean under
    # 0.1 that is a spread under 0.3, and photographs in -1..1 spread more.
    return bool(np.all(mean > 0) and np.all(mean < 1) and np.all(std**2 <= mean * (1 - mean)))


def _to_range(expected: Range | None) -> Preprocessing | None:
    return {
        "0..255": Preprocessing(scale=1.0),
        "0..1": Preprocessing(),
        "-1..1": Preprocessing(scale=1 / 127.5, mean=1.0),
        None: None,
    }[expected]


def implied_preprocessing(built_in: BuiltIn | SeveralWays | None, owner: str) -> Preprocessing:
    """The preprocessing that a network's own normalisation asks for, where nothing else is said.

    Args:
        built_in: What the network does, as measured; `None` if it does nothing.
        owner: Whom to name in the error, such as `"Teacher 'birds'"`.

    Raises:
        ValueError: If its numbers do not tell how images were brought to it.
    """
    if built_in is None:
        raise ValueError(
            f"{owner} does not rescale inside, so it must be said how its images were normalised. "
            "Pass preprocessing=Preprocessing(size=…, mean=…, std=…) as it was in its training."
        )
    implied = built_in.preprocessing()
    if implied is not None:
        return implied
    reason = "which does not tell the range of its images"
    if built_in.takes_bgr:
        reason = "in which ImageNet's means meet the order blue, green, red (channels='bgr')"
    raise ValueError(
        f"{owner} does `{built_in}` itself, {reason}, so it must be said how they were brought to "
        "it. Pass preprocessing=Preprocessing(size=…, scale=…, channels=…) as it was in its "
        "training."
    )


def check_normalised_once(
    built_in: BuiltIn | SeveralWays | None, preprocessing: Preprocessing, owner: str
) -> None:
    """Refuse a preprocessing that does what the network does itself, or leaves out what it needs.

    Args:
        built_in: What the network does, as measured; `None` if it does nothing.
        preprocessing: What goes before it.
        owner: Whom to name in the error, such as `"Teacher 'birds'"`.

    Raises:
        ValueError: If both bring 0..255 to a small range, both subtract a mean or both turn the
            colours, if the network gets another range than its numbers are made for, or if they
            are those of images in the order blue, green, red and nothing is said about that.
    """
    if built_in is None:
        return
    received = (
        f"Received: preprocessing with scale={preprocessing.scale:.4g}, mean={preprocessing.mean}, "
        f"std={preprocessing.std}, and a network that does `{built_in}` itself"
    )
    if isinstance(built_in, SeveralWays):
        received += ", in ways that differ"
        misfit = _misfit_of_several(built_in, preprocessing)
    else:
        misfit = _misfit(built_in, preprocessing)
    if misfit is not None:
        takes = f", for which it takes {built_in.expects}" if built_in.expects else ""
        raise ValueError(
            f"{owner} would have its images {misfit}. {received}{takes}. {ADVICE[built_in.expects]}"
        )
    if preprocessing.channels is None and built_in.takes_bgr:
        raise ValueError(
            f"The order of colours must be said for {owner}. {received}, in which ImageNet's means "
            "meet the order blue, green, red. Pass Preprocessing(…, channels='bgr') if it was "
            "trained on images in that order, else channels='rgb'."
        )
    turns_twice = preprocessing.channels == "bgr" and built_in.turns_colours
    if turns_twice and not built_in.takes_bgr:
        raise ValueError(
            f"{owner} would have its colours turned twice. Received: preprocessing with "
            f"channels='bgr', and a network that does `{built_in}` itself. Leave `channels` out. "
            "If it was trained on images in the order blue, green, red, put "
            "keras.ops.flip(images, axis=-1) in front of the model instead."
        )


ADVICE = {
    "0..255": "Pass Preprocessing(…, scale=1.0) without mean and std.",
    "0..1": "Pass Preprocessing(…, scale=1/255) without mean and std.",
    "-1..1": "Pass Preprocessing(…, scale=1/127.5, mean=1.0) without std.",
    None: "Leave out mean and std, and pass the `scale` of the training: 1/255 for 0..1.",
}


def _misfit(built_in: BuiltIn, preprocessing: Preprocessing) -> str | None:
    """What would go wrong with the images, `None` where nothing is known to."""
    lowest, highest = limits(preprocessing)
    width = highest - lowest
    centres = lowest < -_MIN_MEAN * width
    if built_in.expects == "0..255":
        if width <= 255 / 4:
            return "rescaled twice"
        return "centred twice" if centres and max(built_in.mean) > 255 * _MIN_MEAN else None
    if built_in.expects is None and not _may_be_statistics(built_in):
        return None
    if width >= _PIXEL_SPREAD:
        return "left in another range than it takes"
    if built_in.expects == "0..1":
        # Statistics of images that were centred already may be anywhere in 0..1.
        if built_in.learned:
            return None
        if built_in.centres and not centres and not _is_about(preprocessing, "0..1"):
            return "left in another range than it takes"
        return "centred twice" if centres else None
    if _is_about(preprocessing, "-1..1"):
        return None
    if built_in.expects == "-1..1":
        return "left in another range than it takes"
    return "normalised twice" if centres or not _is_about(preprocessing, "0..1") else None


def _misfit_of_several(several: SeveralWays, preprocessing: Preprocessing) -> str | None:
    """As `_misfit`: what suits one way alone, as half of its normalisation, is refused."""
    if several.expects is None:
        misfits = (_misfit(way, preprocessing) for way in several.ways)
        return next((misfit for misfit in misfits if misfit is not None), None)
    if _is_about(preprocessing, several.expects):
        return None
    lowest, highest = limits(preprocessing)
    leaves = lowest >= 0 and highest > 2 and several.expects != "0..255"
    return "left in another range than it takes" if leaves else "normalised twice"


def _may_be_statistics(built_in: BuiltIn) -> bool:
    """Whether the numbers are a mean and a std of 0..1 or -1..1, so that nothing else fits."""
    # A spread in -1..1 is at most 1. Greater divisors are for standardised images, as those of
    # torchvision's Inception, and so may be what was learned on them.
    return built_in.centres and not built_in.learned and np.abs(built_in.std).max() <= 1.01


def limits(preprocessing: Preprocessing) -> tuple[float, float]:
    """The lowest and the highest number that images become, over all channels."""
    scale, offset = (np.asarray(value) for value in preprocessing.scale_and_offset())
    return float(offset.min()), float((offset + 255 * scale).max())


def _is_about(preprocessing: Preprocessing, expected: Range) -> bool:
    """Whether images come to fill a range, up to 256 for 255 or the like."""
    low, high = RANGES[expected]
    return bool(np.allclose(limits(preprocessing), (low, high), rtol=0, atol=0.1 * (high - low)))


def _ordered(values: Sequence[float], order: Sequence[int]) -> tuple[float, ...]:
    return tuple(values[channel] for channel in order)


def _times(what: str, scale: Sequence[float]) -> str:
    if np.allclose(scale, 1.0):
        return what
    if min(np.abs(scale)) >= 1 / _MIN_SPREAD:
        return f"{what} * {_numbers(scale)}"
    return f"{what} / {_numbers([1 / s for s in scale])}"


def _numbers(values: Sequence[float]) -> str:
    """One number where all are equal."""
    texts = [f"{value:.6g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"

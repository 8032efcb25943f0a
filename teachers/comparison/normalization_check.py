"""Which normalisation a network was trained with, as its batch normalizations remember it.

A batch normalization keeps the mean and the variance of every channel over the training images. Run
other photographs up to it, normalised as in the training, and their moments are much the same;
normalised in another way they are not, by far. Images of another kind than the network's own fit no
normalisation, and then nothing is said.

Nothing is said of the order of colours, either: photographs have nearly the same statistics with
red and blue exchanged (`benchmarks/normalization.py` measures it).
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_amalgam.images.checks import check_images
from keras_amalgam.images.preprocessing import Channels, Preprocessing
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.teachers.comparison.running_statistics import (
    RunningStatistics,
    first_normalizations,
)

# Of so many images the moments are steady enough, and of more they hardly change.
MIN_IMAGES, MAX_IMAGES = 8, 64
# Layers read: the further in, the less they show of the normalisation and the more of the images.
_LAYERS = 3
# Chosen and confirmed by benchmarks/normalization.py.
_FITS, _TIMES, _APART = 0.2, 4.0, 0.2
_BATCH = 8
_IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_CAFFE_RGB = Preprocessing(scale=1.0, mean=(123.68, 116.779, 103.939))


@dataclass(frozen=True)
class Fit:
    """How well one normalisation fits.

    Args:
        name: What it is called in a sentence.
        preprocessing: Its `scale`, `mean`, `std` and `channels`; the size is left open.
        divergence: How far the images' moments are from the running statistics, 0 where they are
            the same; see `RunningStatistics.divergence`.
    """

    name: str
    preprocessing: Preprocessing
    divergence: float


@dataclass(frozen=True)
class NormalizationCheck:
    """What a network's running statistics say of some images.

    Args:
        images: How many were looked at.
        teacher: The teacher's name, of one with a declared normalisation.
        usual: The usual normalisations, best first; empty if nothing can be told.
        declared: The fit of the teacher's preprocessing; `None` without one.
        obstacle: Why nothing can be told; empty if something can.
    """

    images: int
    teacher: str = ""
    usual: tuple[Fit, ...] = ()
    declared: Fit | None = None
    obstacle: str = ""

    @property
    def better(self) -> Fit | None:
        """The usual normalisation that fits clearly better than the declared one, if one does."""
        if self.declared is None or not _is_clear(self.usual[0], self.declared):
            return None
        return self.usual[0]

    @property
    def clear(self) -> Fit | None:
        """The usual normalisation that fits clearly better than all the others, if one does."""
        return self.usual[0] if self.usual and _is_clear(*self.usual[:2]) else None

    @property
    def warning(self) -> str | None:
        """A sentence on the better normalisation; `None` without one."""
        better = self.better
        if better is None or self.declared is None:
            return None
        return (
            f"Teacher {self.teacher!r} seems to be shown images normalised otherwise than in its "
            f"training. Received: {_numbers(self.declared.preprocessing)}, with which {self.images}"
            f" images diverge by {self.declared.divergence:.2g} from the running statistics of its "
            f"first batch normalizations. {better.name} fits them, {better.divergence:.2g}: unless "
            f"its authors say otherwise, use {advice(better.preprocessing)}."
        )

    def to_config(self) -> dict[str, Any]:
        """Everything as JSON-ready values."""
        return {
            "images": self.images,
            "declared": self.declared.divergence if self.declared else None,
            "usual": {fit.name: fit.divergence for fit in self.usual},
            "warning": self.warning,
            "obstacle": self.obstacle or None,
        }


def check_normalization(teacher: Teacher, images: Iterable[np.ndarray]) -> NormalizationCheck:
    """Compare some images with a teacher's running statistics, as declared and as usual.

    Args:
        teacher: Any; of one that runs in its own runtime nothing can be told.
        images: Photographs of the user's, such as the teacher is to be shown: each `(height, width,
            1 or 3)`, uint8 or float in 0..255, of its own size; at most the first 64 are read.
    """
    if not teacher.in_graph:
        reason = "the network runs in its own runtime, which shows no statistics"
        return NormalizationCheck(0, teacher.name, obstacle=reason)
    check = _compared(teacher.model, images, teacher.preprocessing, declares=True)
    return replace(check, teacher=teacher.name)


def rank_normalizations(model: keras.Model, images: Iterable[np.ndarray]) -> NormalizationCheck:
    """Compare some images with a network's running statistics under the usual normalisations.

    Args:
        model: A functional or sequential model with one image input.
        images: Photographs as for `check_normalization`. They are cut to the network's shape and
            shrunk with antialiasing, to 224 pixels where it takes any size.
    """
    height, width = (side or 224 for side in model.input_shape[1:3])
    resizing = Preprocessing(size=(height, width), antialias=True, crop_to_aspect_ratio=True)
    return _compared(model, images, resizing, declares=False)


def _compared(
    model: keras.Model, images: Iterable[np.ndarray], preprocessing: Preprocessing, declares: bool
) -> NormalizationCheck:
    """The usual normalisations, and the preprocessing's own if it declares one."""
    paths = first_normalizations(model, _LAYERS)
    if not paths:
        return NormalizationCheck(0, obstacle=_nothing_to_read(model))
    channels = model.input_shape[-1]
    pixels = resized(images, preprocessing, channels)
    number = sum(map(len, pixels))
    if number < MIN_IMAGES:
        return NormalizationCheck(number, obstacle=f"at least {MIN_IMAGES} images are needed")
    statistics = RunningStatistics(model, paths)

    def fit(name: str, each: Preprocessing) -> Fit:
        return Fit(name, each, statistics.divergence(pixels, each))

    usual = [fit(*each) for each in usual_normalizations(preprocessing.channels, channels).items()]
    return NormalizationCheck(
        number,
        usual=tuple(sorted(usual, key=lambda each: each.divergence)),
        declared=fit("The declared normalisation", preprocessing) if declares else None,
    )


def advice(preprocessing: Preprocessing) -> str:
    """A normalisation as the flags of `keras-amalgam convert` and in Python."""
    p = preprocessing
    parts = [("scale", p.scale, 1 / 255), ("mean", p.mean, 0.0), ("std", p.std, 1.0)]
    flags = [f"--{name}={_listed(value)}" for name, value, default in parts if value != default]
    flags = flags or ["--mean=0"]  # With which the scale is 1/255.
    flags += [f"--channels={p.channels}"] if p.channels else []
    changed = [
        f"{field.name}={getattr(p, field.name)!r}"
        for field in fields(p)
        if getattr(p, field.name) != field.default
    ]
    return f"{' '.join(flags)}, in Python Preprocessing({', '.join(changed)})"


def _listed(value: float | tuple[float, ...]) -> str:
    values = value if isinstance(value, tuple) else (value,)
    return ",".join(f"{number:.6g}" for number in values)


def _numbers(p: Preprocessing) -> str:
    return f"scale={p.scale:.4g}, mean={_listed(p.mean)}, std={_listed(p.std)}"


def _is_clear(best: Fit, other: Fit) -> bool:
    near, far = best.divergence, other.divergence
    return near <= _FITS and far >= max(_TIMES * near, near + _APART)


def usual_normalizations(order: Channels | None, channels: int) -> dict[str, Preprocessing]:
    """What is usually done to pixels, by name.

    Args:
        order: Channel order, `"rgb"` or `"bgr"`.
        channels: The number of channels that the network takes, 1 or 3.
    """
    usual = {
        "No normalisation (0..255)": Preprocessing(scale=1.0),
        "A scale of 1/255 (0..1)": Preprocessing(),
        "A range of -1..1": Preprocessing(mean=0.5, std=0.5),
    }
    if channels == 3:
        usual["ImageNet's mean and std"] = _IMAGENET
        usual["Subtracting Caffe's means"] = _CAFFE_RGB
    return {name: _in_order(each, order) for name, each in usual.items()}


def _in_order(rgb: Preprocessing, order: Channels | None) -> Preprocessing:
    """A normalisation of RGB images as that of images whose channels stand in some order."""
    mean, std = rgb.mean, rgb.std
    if order == "bgr" and isinstance(mean, tuple):
        mean, std = mean[::-1], std[::-1] if isinstance(std, tuple) else std
    return replace(rgb, channels=order, mean=mean, std=std)


def _nothing_to_read(model: keras.Model) -> str:
    provenance = getattr(model, "provenance", None)
    if provenance and provenance.batch_norm:
        return (
            "its batch normalizations were folded into the convolutions, which takes their gains "
            "away: convert it without fold_batch_norm"
        )
    layers = (layer for layer in model._flatten_layers())
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers):
        return "no batch normalization in it has statistics of training images that can be read"
    return (
        "it has no batch normalization; an exporter in evaluation mode folds them into the "
        "convolutions"
    )


def resized(
    images: Iterable[np.ndarray], preprocessing: Preprocessing, channels: int
) -> list[np.ndarray]:
    """The first images in a network's size and order of channels, 0..255, in batches.

    Args:
        images: Photographs as for `check_normalization`.
        preprocessing: The size and channel order to bring them to.
        channels: The number of channels that the network takes, 1 or 3.

    Raises:
        TypeError: If they are neither uint8 nor float.
        ValueError: If they are not images in 0..255.
    """
    plain = replace(preprocessing, scale=1.0, mean=0.0, std=1.0)
    by_shape: dict[tuple[int, ...], list[np.ndarray]] = {}
    for image in islice(images, MAX_IMAGES):
        by_shape.setdefault(image.shape, []).append(image)
    for alike in by_shape.values():
        check_images(np.stack(alike))
    models = {}
    for given in {shape[-1] for shape in by_shape}:
        raw = keras.Input((None, None, given))
        models[given] = keras.Model(raw, plain.build(raw, channels))
    entering = [
        ops.convert_to_numpy(models[shape[-1]](batch.astype(np.float32), training=False))
        for shape, alike in by_shape.items()
        for batch in _batches(np.stack(alike))
    ]
    if len({batch.shape[1:] for batch in entering}) != 1:
        return entering
    return _batches(np.concatenate(entering))


def _batches(images: np.ndarray) -> list[np.ndarray]:
    return [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]

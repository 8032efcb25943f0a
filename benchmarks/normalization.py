"""What running statistics tell of a network's normalisation: right, wrong and foreign images.

    python -m benchmarks.normalization [--data ../shared/data] [--write docs/teachers.md]

Two kinds of networks are judged by `teachers.normalization_check`: trained ones that packages carry
and that still have their batch normalizations, and eight small ones, trained here for a minute or
less on photographs of living things, each under another normalisation or order of channels. Every
network sees some pools of photographs, of its own kind and of others, under every normalisation
that somebody could declare. Thresholds were chosen on `CHOSEN_ON`; the others confirm them.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_amalgam import data, teachers
from keras_amalgam.images.preprocessing import Preprocessing
from keras_amalgam.teacher import Teacher
from keras_amalgam.teachers.normalization_check import (
    MAX_IMAGES,
    Fit,
    NormalizationCheck,
    check_normalization,
    resized,
    usual_normalizations,
)
from keras_amalgam.teachers.running_statistics import RunningStatistics, first_normalizations
from tests.networks import trained
from tests.networks.samples import labelled

CHOSEN_ON = ("mobilenet_v2_trained", "efficientnet_lite0_trained", "small 0..255 rgb",
             "small 0..1 rgb", "small -1..1 rgb", "small ImageNet rgb")  # fmt: skip
NAMES = {
    "0..255": "No normalisation (0..255)",
    "0..1": "A scale of 1/255 (0..1)",
    "-1..1": "A range of -1..1",
    "ImageNet": "ImageNet's mean and std",
    "Caffe": "Subtracting Caffe's means",
}
REAL = {
    "mobilenet_v2_trained": "ImageNet",
    "efficientnet_lite0_trained": "-1..1",
    "efficientnet_lite1_trained": "-1..1",
    "efficientnet_lite2_trained": "-1..1",
}
SMALL = (("0..255", "rgb"), ("0..1", "rgb"), ("-1..1", "rgb"), ("ImageNet", "rgb"),
         ("Caffe", "bgr"), ("0..1", "bgr"), ("-1..1", "bgr"), ("ImageNet", "bgr"))  # fmt: skip
TRAINED_ON = 4000
SIDE = 64
# In so many normalizations throughout a network the order of colours is sought.
THROUGHOUT = 8


@dataclass(frozen=True)
class Subject:
    """One network.

    Args:
        name: In the table.
        model: The network.
        truth: Its preprocessing.
        normalisation: The truth's name, of `NAMES`.
        pools: Whether a pool is of its own kind of images, by the pool's name.
    """

    name: str
    model: keras.Model
    truth: Preprocessing
    normalisation: str
    pools: Mapping[str, bool]


@dataclass(frozen=True)
class Judged:
    """One network on one pool.

    Args:
        subject: The network.
        pool: The pool.
        is_own: Whether the pool is of the network's own kind.
        check: With the truth declared.
        orders: Divergence in the right order of colours and in the other, of the first layers and
            of some through the whole network.
    """

    subject: Subject
    pool: str
    is_own: bool
    check: NormalizationCheck
    orders: tuple[float, float, float, float]

    def declaring(self, name: str) -> NormalizationCheck:
        """The check, had a usual normalisation been declared; the truth itself as it is."""
        if name == self.subject.normalisation:
            return self.check
        fits = {fit.name: fit for fit in self.check.usual}
        return replace(self.check, declared=fits[NAMES[name]])


def pools(folder: Path, networks: Path) -> dict[str, list[np.ndarray]]:
    """At most 64 photographs of each kind, uint8, of their own sizes."""
    stored = {
        "persons": ("persons_voc", "train"),
        "portraits": ("persons_portraits", "validation"),
        "living": ("tiny_imagenet_living", "validation"),
        "things": ("tiny_imagenet_things", "validation"),
    }
    found = {}
    for name, (data_set, split) in stored.items():
        builder = tfds.builder_from_directory(folder / data_set / "1.0.0")
        examples = builder.as_dataset(split=split).take(MAX_IMAGES)
        found[name] = [example["image"].numpy() for example in examples]
    found["ImageNet"] = labelled(networks)[0]
    for name in ("digits", "fashion"):
        images = data.from_tfds(f"demo_{name}", "unlabelled", data.demo_data_dir())
        found[name] = [image.numpy() for image in images.take(MAX_IMAGES)]
    return found


def real_networks(folder: Path) -> Iterator[Subject]:
    """Those that packages carry, converted from PyTorch with their normalizations."""
    described = {network.name: network for network in trained.networks()}
    for name, normalisation in REAL.items():
        network = described[name]
        path = folder / "normalization" / f"{name}.keras"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            module = trained.modules()[name](folder)
            teachers.from_torch(module, (1, 3, *network.size)).save(path)
        own = {"persons": True, "portraits": True, "ImageNet": True, "living": True, "things": True}
        truth = Preprocessing(**(network.preprocessing or {}))
        model = keras.saving.load_model(path)
        yield Subject(name, model, truth, normalisation, own | {"digits": False, "fashion": False})


def small_networks(folder: Path, stored: Path) -> Iterator[Subject]:
    """Four convolutions each, trained on living things under one normalisation."""
    builder = tfds.builder_from_directory(stored / "tiny_imagenet_living/1.0.0")
    examples = builder.as_dataset(split=f"train[:{TRAINED_ON}]", as_supervised=True)
    images, labels = (np.stack(part) for part in zip(*examples.as_numpy_iterator(), strict=True))
    foreign = {name: False for name in ("things", "persons", "portraits", "digits", "fashion")}
    for normalisation, order in SMALL:
        usual = usual_normalizations(order, 3)[NAMES[normalisation]]
        truth = replace(usual, size=(SIDE, SIDE), antialias=True)
        path = folder / "normalization" / f"small_{normalisation}_{order}.keras"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _trained_small(images, labels, truth).save(path)
        model = keras.saving.load_model(path)
        name = f"small {normalisation} {order}"
        yield Subject(name, model, truth, normalisation, {"living": True, **foreign})


def _trained_small(images: np.ndarray, labels: np.ndarray, truth: Preprocessing) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((SIDE, SIDE, 3))
    for width, stride in ((16, 2), (32, 2), (48, 2), (64, 1)):
        x = keras.layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
    model = keras.Model(inputs, keras.layers.Dense(50)(keras.layers.GlobalAveragePooling2D()(x)))
    raw = keras.Input((SIDE, SIDE, 3))
    whole = keras.Model(raw, model(truth.build(keras.layers.RandomFlip("horizontal")(raw), 3)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    whole.compile(keras.optimizers.Adam(2e-3), loss)
    whole.fit(images.astype(np.float32), labels, batch_size=64, epochs=4, verbose=0)
    return model


def judged(subject: Subject, photographs: Mapping[str, list[np.ndarray]]) -> Iterator[Judged]:
    """The network on each of its pools."""
    teacher = Teacher(
        subject.model,
        "network",
        [str(number) for number in range(subject.model.output_shape[-1])],
        preprocessing=subject.truth,
    )
    for pool, is_own in subject.pools.items():
        check = check_normalization(teacher, photographs[pool])
        orders = _orders(subject, photographs[pool])
        print(subject.name, pool, check.to_config(), np.round(orders, 4), flush=True)
        yield Judged(subject, pool, is_own, check, orders)


def _orders(subject: Subject, images: Sequence[np.ndarray]) -> tuple[float, float, float, float]:
    """Divergence in the right order and in the other: of the first layers, and of all in steps."""
    every = first_normalizations(subject.model, most=10_000)
    pixels = resized(images, subject.truth, 3)
    # Means per channel belong to the order that the network takes, whatever it is given.
    swapped = [batch[..., ::-1] for batch in pixels]
    found = []
    for paths in (every[:3], every[:: max(1, len(every) // THROUGHOUT)]):
        statistics = RunningStatistics(subject.model, paths)
        found += [statistics.divergence(each, subject.truth) for each in (pixels, swapped)]
    return found[0], found[1], found[2], found[3]

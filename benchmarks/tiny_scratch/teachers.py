"""Trains the two teachers of the benchmark, from scratch, on 10,000 photographs each.

    python -m benchmarks.tiny_scratch.teachers --data ../shared/data
        --out runs/tiny_scratch/teachers [--only living] [--epochs 1]

`living` is a residual network, `things` one of inverted residuals as in MobileNetV2; their
normalisations differ as well. Each is written as a teacher's folder, and `teachers.json` beside
them holds the accuracies on all splits. `EPOCHS` were chosen by the split `validation`; on two
cores a teacher takes less than twenty minutes. One seed gives one network, to the last bit, on one
kind of processor.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from benchmarks.tiny_scratch.classes import COLLECTIONS
from benchmarks.tiny_scratch.data import SIZE, SPLITS, Photographs, load
from keras_amalgam.images.preprocessing import Preprocessing
from keras_amalgam.models.teacher import Teacher

BATCH = 128
# Pixels that a crop may be off the centre.
MAX_SHIFT = 4
# Of the moving statistics, which 79 steps an epoch must not leave behind.
MOMENTUM = 0.95
TAP = "map"


@dataclass(frozen=True)
class Course:
    """How a teacher is built and trained.

    Args:
        network: Makes the network: normalised images `(batch, SIZE, SIZE, 3)` to logits.
        preprocessing: Raw images to the network's input.
        optimizer: Makes the optimizer from its schedule of rates.
        peak_rate: The learning rate after the warm-up; it falls to zero along a cosine.
        epochs: After so many, accuracy on the split `validation` no longer grows.
        seed: Of the weights and of the order, crops and flips of the images.
    """

    network: Callable[[int], keras.Model]
    preprocessing: Preprocessing
    optimizer: Callable[[Any], keras.optimizers.Optimizer]
    peak_rate: float
    epochs: int
    seed: int


def residual_network(num_classes: int) -> keras.Model:
    """Seven residual blocks at 32, 16 and 8 pixels, the last map 8×8×96; 0.6 million weights.

    Reference:
        [He et al., 2016](https://arxiv.org/abs/1512.03385), section 4.2: its networks for CIFAR.
    """
    images = keras.Input((SIZE, SIZE, 3))
    x = layers.ReLU()(_convolution(images, 24, 3))
    x = _residual(x, 24)
    for channels in (48, 96):
        x = _residual(x, channels, strides=2)
        x = _residual(x, channels)
        x = _residual(x, channels, name=TAP if channels == 96 else None)
    return _with_head(images, x, num_classes, "living")


def inverted_residual_network(num_classes: int) -> keras.Model:
    """Eight inverted residuals at 32, 16 and 8 pixels, the last map 8×8×320; 0.3 million weights.

    Reference:
        [Sandler et al., 2018](https://arxiv.org/abs/1801.04381)
    """
    images = keras.Input((SIZE, SIZE, 3))
    x = layers.ReLU(6)(_convolution(images, 16, 3))
    x = _inverted_residual(x, 16, expansion=1)
    for channels, blocks, first_strides in ((32, 2, 2), (64, 3, 2), (112, 2, 1)):
        for block in range(blocks):
            x = _inverted_residual(x, channels, 1 if block else first_strides)
    x = layers.ReLU(6, name=TAP)(_convolution(x, 320, 1))
    return _with_head(images, x, num_classes, "things")


COURSES = {
    "living": Course(
        residual_network,
        Preprocessing(size=(SIZE, SIZE), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=5e-4),
        peak_rate=0.1,
        epochs=26,
        seed=1,
    ),
    "things": Course(
        inverted_residual_network,
        Preprocessing(size=(SIZE, SIZE), scale=1 / 127.5, mean=1.0),
        lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.05),
        peak_rate=4e-3,
        epochs=24,
        seed=2,
    ),
}


def _convolution(x: Any, channels: int, side: int, strides: int = 1) -> Any:
    """A normalised convolution."""
    x = layers.Conv2D(
        channels, side, strides, padding="same", use_bias=False, kernel_initializer="he_normal"
    )(x)
    return layers.BatchNormalization(momentum=MOMENTUM)(x)


def _residual(x: Any, channels: int, strides: int = 1, name: str | None = None) -> Any:
    y = layers.ReLU()(_convolution(x, channels, 3, strides))
    y = _convolution(y, channels, 3)
    if strides > 1 or x.shape[-1] != channels:
        x = _convolution(x, channels, 1, strides)
    return layers.ReLU(name=name)(layers.Add()([x, y]))


def _inverted_residual(x: Any, channels: int, strides: int = 1, expansion: int = 4) -> Any:
    y = layers.ReLU(6)(_convolution(x, expansion * x.shape[-1], 1))
    y = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(y)
    y = layers.ReLU(6)(layers.BatchNormalization(momentum=MOMENTUM)(y))
    y = _convolution(y, channels, 1)
    return layers.Add()([x, y]) if x.shape == y.shape else y


def _with_head(images: Any, x: Any, num_classes: int, name: str) -> keras.Model:
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(images, layers.Dense(num_classes, name="logits")(x), name=name)


class Views(keras.utils.PyDataset):
    """Batches of shifted and mirrored photographs, in a new order each epoch.

    Args:
        photographs: What is trained on.
        seed: Of order, shifts and mirroring, which NumPy draws.
    """

    def __init__(self, photographs: Photographs, seed: int) -> None:
        super().__init__()
        self._random = np.random.default_rng(seed)
        margins = ((0, 0), (MAX_SHIFT, MAX_SHIFT), (MAX_SHIFT, MAX_SHIFT), (0, 0))
        self._images = np.pad(photographs.images, margins, mode="reflect")
        self._labels = photographs.labels
        self._order = self._random.permutation(len(self._labels))

    def __len__(self) -> int:
        """The number of whole batches."""
        return len(self._labels) // BATCH

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Raw images `(BATCH, SIZE, SIZE, 3)`, float32 in 0..255, and labels `(BATCH,)`."""
        chosen = self._order[index * BATCH : (index + 1) * BATCH]
        offsets = self._random.integers(0, 2 * MAX_SHIFT + 1, (2, BATCH, 1))
        rows, columns = offsets + np.arange(SIZE)
        mirrored = self._random.random(BATCH) < 0.5
        columns[mirrored] = columns[mirrored, ::-1]
        images = self._images[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
        return images.astype(np.float32), self._labels[chosen]

    def on_epoch_end(self) -> None:
        """Shuffles."""
        self._order = self._random.permutation(len(self._labels))


def _with_normalisation(network: keras.Model, preprocessing: Preprocessing) -> keras.Model:
    """The network behind its normalisation: raw images of its own size to logits."""
    raw = keras.Input((SIZE, SIZE, 3))
    return keras.Model(raw, network(replace(preprocessing, size=None).build(raw, 3)))


def trained(
    course: Course, epochs: int, train: Photographs, validation: Photographs
) -> tuple[keras.Model, list[float]]:
    """A network, and its accuracy on `validation` after each epoch.

    Args:
        course: See `Course`.
        epochs: How often `train` is seen.
        train: What the network learns from.
        validation: What it is measured on; it has no influence on the network.
    """
    keras.utils.set_random_seed(course.seed)
    tf.config.experimental.enable_op_determinism()
    network = course.network(int(train.labels.max()) + 1)
    model = _with_normalisation(network, course.preprocessing)
    views = Views(train, course.seed)
    steps = epochs * len(views)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps * 9 // 10, warmup_target=course.peak_rate, warmup_steps=steps // 10
    )
    optimizer = course.optimizer(rate)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    known = (validation.images.astype(np.float32), validation.labels)
    history = model.fit(views, epochs=epochs, validation_data=known, shuffle=False, verbose=2)
    return network, [round(float(value), 4) for value in history.history["val_accuracy"]]


def accuracy(model: keras.Model, photographs: Photographs) -> float:
    """The share of photographs that a model of raw images classifies rightly."""
    images = photographs.images.astype(np.float32)
    logits = model.predict(images, batch_size=250, verbose=0)
    return round(float((logits.argmax(-1) == photographs.labels).mean()), 4)


def make(name: str, data: Path, out: Path, epochs: int | None = None) -> dict[str, Any]:
    """Train a teacher and write its folder.

    Args:
        name: `"living"` or `"things"`.
        data: Holds the TFDS data sets.
        out: In which the folder is made.
        epochs: Instead of the course's own.

    Returns:
        What `teachers.json` says of it.
    """
    course = COURSES[name]
    epochs = epochs or course.epochs
    photographs = {split: load(data, name, split) for split in SPLITS}
    started = time.perf_counter()
    network, by_epoch = trained(course, epochs, photographs["train"], photographs["validation"])
    seconds = time.perf_counter() - started
    teacher = Teacher(
        network,
        name,
        class_names=COLLECTIONS[name][1],
        tap=TAP,
        outputs="logits",
        preprocessing=course.preprocessing,
    )
    teacher.save(out / name)
    raw = _with_normalisation(network, course.preprocessing)
    return {
        "accuracy": {split: accuracy(raw, part) for split, part in photographs.items()},
        "photographs": {split: len(part.labels) for split, part in photographs.items()},
        "parameters": teacher.count_params(),
        "epochs": epochs,
        "seconds": round(seconds),
        "seed": course.seed,
        "weights_sha256": teacher.fingerprint(),
        "validation_by_epoch": by_epoch,
    }


def main() -> None:
    """Train the teachers that are asked for, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of TFDS data sets")
    parser.add_argument("--out", type=Path, required=True, help="for the teachers' folders")
    parser.add_argument("--only", action="append", choices=COURSES, help="by default both")
    parser.add_argument("--epochs", type=int, help="instead of the teachers' own, for trials")
    arguments = parser.parse_args()
    names = arguments.only or list(COURSES)
    if there := [str(arguments.out / name) for name in names if (arguments.out / name).exists()]:
        raise SystemExit(
            f"There already: {', '.join(there)}. Remove them, or choose another --out."
        )
    report = arguments.out / "teachers.json"
    results = json.loads(report.read_text()) if report.exists() else {}
    for name in names:
        results[name] = make(name, arguments.data, arguments.out, arguments.epochs)
        report.write_text(json.dumps(results, indent=2) + "\n")
        print(f"{name}: {json.dumps(results[name])}", flush=True)


if __name__ == "__main__":
    main()

"""The photographs of the benchmark: 32×32 pixels, four splits of each collection.

Each of the 25 classes of a collection has 500 photographs in its data set's `train` and 50 in its
`validation`:

| split | of the data set | photographs | for |
| --- | --- | ---: | --- |
| `train` | `train[:80%]` | about 10,000 | training a teacher; without labels, training students |
| `validation` | `train[80%:90%]` | about 1,250 | choosing a teacher's number of epochs |
| `selection` | `train[90%:]` | about 1,250 | choosing between methods and their settings |
| `test` | `validation` | 1,250 | the accuracies that are reported; nothing is chosen by it |

The data set's own `train` is cut before classes are taken out of it, so the first three numbers
differ a little between the collections.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow_datasets as tfds

from benchmarks.tiny_scratch.classes import COLLECTIONS, STEP

Split = Literal["train", "validation", "selection", "test"]

VERSION = "1.0.0"
SIZE = 32
SPLITS: dict[Split, str] = {
    "train": "train[:80%]",
    "validation": "train[80%:90%]",
    "selection": "train[90%:]",
    "test": "validation",
}


@dataclass(frozen=True)
class Photographs:
    """Some photographs and what they show.

    Args:
        images: Raw images, uint8, shape `(number, SIZE, SIZE, 3)`.
        labels: Places among the collection's classes, 0 to 24, int64, shape `(number,)`.
    """

    images: np.ndarray
    labels: np.ndarray


def load(folder: Path, collection: str, split: Split) -> Photographs:
    """One split of one collection, in the data set's own fixed order.

    Args:
        folder: Holds the TFDS data sets, such as `../shared/data`.
        collection: `"living"` or `"things"`.
        split: See the module.

    Raises:
        ValueError: If the data set does not name its classes as the benchmark does.
    """
    data_set, classes = COLLECTIONS[collection]
    builder = tfds.builder_from_directory(folder / data_set / VERSION)
    names = builder.info.features["label"].names[::STEP]
    if tuple(names) != classes:
        raise ValueError(
            f"Data set {data_set!r} must have the benchmark's classes at labels 0, {STEP}, … . "
            f"Received: {names}. Expected: {list(classes)}. Use its version {VERSION}."
        )
    examples = builder.as_dataset(split=SPLITS[split], as_supervised=True)
    chosen = examples.filter(lambda image, label: label % STEP == 0)
    images, labels = zip(*chosen.as_numpy_iterator(), strict=True)
    return Photographs(halved(np.stack(images)), np.array(labels, np.int64) // STEP)


def halved(images: np.ndarray) -> np.ndarray:
    """Images at half their size: each pixel is the mean of four, rounded.

    Args:
        images: uint8, shape `(number, height, width, channels)`, sides even.

    Returns:
        uint8, shape `(number, height / 2, width / 2, channels)`.
    """
    number, height, width, channels = images.shape
    squares = images.reshape(number, height // 2, 2, width // 2, 2, channels)
    return ((squares.sum(axis=(2, 4), dtype=np.uint16) + 2) // 4).astype(np.uint8)

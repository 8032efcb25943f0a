"""What the ways of training are compared on: teachers, images to learn from, and tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.tiny_scratch.classes import COLLECTIONS
from benchmarks.tiny_scratch.data import SIZE, load
from keras_amalgam import data
from keras_amalgam.experiments import digits_fashion
from keras_amalgam.models.teacher import Teacher

Views = Literal["plain", "mixed"]
Labelled = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Setting:
    """One comparison's teachers and images.

    Args:
        name: In the rows.
        teachers: Each with one tap, in the order of the sources.
        image_shape: Height, width and channels of every image.
        unlabelled: By source what students learn from, uint8, `(images, height, width, channels)`.
        kept_aside: By source what agreement with the teachers is measured on.
        test: By task labelled images; nothing is chosen by them.
        augmentations: By kind of view what is drawn at random, for each source.
        temperature: Divisor of the logits in the soft targets.
        learning_rate: The peak.
    """

    name: str
    teachers: tuple[Teacher, ...]
    image_shape: tuple[int, int, int]
    unlabelled: Mapping[str, np.ndarray]
    kept_aside: Mapping[str, np.ndarray]
    test: Mapping[str, Labelled]
    augmentations: Mapping[Views, Mapping[str, data.Augmentation]]
    temperature: float
    learning_rate: float

    @property
    def num_images(self) -> int:
        """Images to learn from, of all sources."""
        return sum(map(len, self.unlabelled.values()))


def tiny_scratch(folder: Path, teachers: Path) -> Setting:
    """Photographs of 32 pixels, and two teachers that `benchmarks.tiny_scratch.teachers` made.

    Args:
        folder: Holds the TFDS data sets.
        teachers: Holds the teachers' folders.
    """
    plain = data.Augmentation(translation=4, flip=True, fill="edge")
    mixed = data.Augmentation(translation=4, flip=True, fill="edge", zoom=0.25, mixup=1.0)
    test = {name: load(folder, name, "test") for name in COLLECTIONS}
    return Setting(
        name="tiny_scratch",
        teachers=tuple(Teacher.load(teachers / name) for name in COLLECTIONS),
        image_shape=(SIZE, SIZE, 3),
        unlabelled={name: load(folder, name, "train").images[:7500] for name in COLLECTIONS},
        kept_aside={name: load(folder, name, "selection").images for name in COLLECTIONS},
        test={name: (part.images, part.labels) for name, part in test.items()},
        augmentations={
            "plain": dict.fromkeys(COLLECTIONS, plain),
            "mixed": dict.fromkeys(COLLECTIONS, mixed),
        },
        temperature=2.0,
        learning_rate=3e-3,
    )


def demo() -> Setting:
    """The demo's images and teachers: digits and clothes of 28 pixels.

    The last 1,000 unlabelled images of each source are kept aside.
    """
    recipe = digits_fashion.recipe()
    folder = data.demo_data_dir()
    names = [teacher.name for teacher in recipe.teachers]
    images = {
        name: np.stack([*data.from_tfds(f"demo_{name}", "unlabelled", folder).as_numpy_iterator()])
        for name in names
    }
    return Setting(
        name="demo",
        teachers=tuple(recipe.teachers),
        image_shape=digits_fashion.IMAGE_SHAPE,
        unlabelled={name: one[:-1000] for name, one in images.items()},
        kept_aside={name: one[-1000:] for name, one in images.items()},
        test={
            name: tuple(map(np.concatenate, zip(*labelled.as_numpy_iterator(), strict=True)))
            for name, labelled in recipe.evaluation.items()
        },
        augmentations={"plain": digits_fashion.AUGMENTATION},
        temperature=1.0,
        learning_rate=digits_fashion.PEAK_RATE,
    )


NAMES = ("tiny_scratch", "demo")
EPOCHS: Mapping[str, int] = {"tiny_scratch": 20, "demo": 10}

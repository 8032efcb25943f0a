"""What running statistics tell of a network's normalisation: right, wrong and foreign images.

    python -m benchmarks.normalization --data DIR [--keep]
        [--write docs/running_statistics.md] [NETWORK …]

Two kinds of networks are judged by `teachers.comparison.normalization_check`: trained ones that
packages carry and that still have their batch normalizations, and eight small ones, trained here
for a minute or less on photographs of living things, each under another normalisation or order of
channels. Every network sees some pools of photographs, of its own kind and of others, under every
normalisation that somebody could declare. Thresholds were chosen on the networks of `CHOSEN_ON` in
`normalization_report`; the others confirm them.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow_datasets as tfds

from benchmarks import normalization_report
from keras_amalgam import data, teachers, text
from keras_amalgam.images.preprocessing import Channels, Preprocessing
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.teachers.comparison.normalization_check import (
    MIN_IMAGES,
    Fit,
    NormalizationCheck,
    check_normalization,
    resized,
    usual_normalizations,
)
from keras_amalgam.teachers.comparison.running_statistics import (
    RunningStatistics,
    first_normalizations,
)
from tests.networks import trained
from tests.networks.samples import labelled

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
SMALL: dict[str, tuple[str, Channels]] = {
    "small 0..255 rgb": ("0..255", "rgb"),
    "small 0..1 rgb": ("0..1", "rgb"),
    "small -1..1 rgb": ("-1..1", "rgb"),
    "small ImageNet rgb": ("ImageNet", "rgb"),
    "small Caffe bgr": ("Caffe", "bgr"),
    "small 0..1 bgr": ("0..1", "bgr"),
    "small -1..1 bgr": ("-1..1", "bgr"),
    "small ImageNet bgr": ("ImageNet", "bgr"),
}
# As many as `convert` compares, and as few as are taken.
NUMBERS = (32, MIN_IMAGES)
TRAINED_ON = 4000
SIDE = 64
# In so many normalizations throughout a network the order of colours is sought.
THROUGHOUT = 6
# On so many images, as it takes the whole network.
ORDERED = 8


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
class Row:
    """One network on some images of one pool.

    Args:
        network: Its name.
        truth: Its normalisation, of `NAMES`.
        pool: The images.
        is_own: Whether they are of the kind that the network was trained on.
        images: How many.
        declared: Divergence under the network's own preprocessing.
        usual: Divergence under the usual normalisations, by name.
        orders: Under its own preprocessing in the right order of colours and in the other, at the
            first normalizations; then the same throughout the network. Empty if not measured.
    """

    network: str
    truth: str
    pool: str
    is_own: bool
    images: int
    declared: float
    usual: Mapping[str, float]
    orders: Sequence[float] = ()

    def named(self, declared: str) -> str | None:
        """Which normalisation the check names if one is declared; `None` if it is silent."""
        known = {name: self.usual[said] for name, said in NAMES.items()}
        fits = [Fit(name, Preprocessing(), known[name]) for name in sorted(known, key=known.get)]
        divergence = self.declared if declared == self.truth else known[declared]
        fit = Fit("declared", Preprocessing(), divergence)
        better = NormalizationCheck(self.images, usual=tuple(fits), declared=fit).better
        return better.name if better else None


def pools(folder: Path, networks: Path) -> dict[str, list[np.ndarray]]:
    """Some photographs of each kind, uint8, of their own sizes."""
    stored = {
        "persons": ("persons_voc", "train"),
        "portraits": ("persons_portraits", "validation"),
        "living": ("tiny_imagenet_living", "validation"),
        "things": ("tiny_imagenet_things", "validation"),
    }
    found = {}
    for name, (data_set, split) in stored.items():
        builder = tfds.builder_from_directory(folder / data_set / "1.0.0")
        examples = builder.as_dataset(split=split).take(NUMBERS[0])
        found[name] = [example["image"].numpy() for example in examples]
    found["ImageNet"] = labelled(networks)[0]
    for name in ("digits", "fashion"):
        images = data.from_tfds(f"demo_{name}", "unlabelled", data.demo_data_dir())
        found[name] = [image.numpy() for image in images.take(NUMBERS[0])]
    return found


def real(name: str, folder: Path) -> Subject:
    """One that a package carries, converted from PyTorch with its normalizations."""
    network = {network.name: network for network in trained.networks()}[name]
    path = folder / "normalization" / f"{name}.keras"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        module = trained.modules()[name](folder)
        teachers.from_torch(module, (1, 3, *network.size)).save(path)
    own = dict.fromkeys(("persons", "portraits", "ImageNet", "living", "things"), True)
    foreign = dict.fromkeys(("digits", "fashion"), False)
    truth = Preprocessing(**(network.preprocessing or {}))
    return Subject(name, keras.saving.load_model(path), truth, REAL[name], own | foreign)


def small(name: str, folder: Path, stored: Path) -> Subject:
    """Four convolutions, trained on living things."""
    normalisation, order = SMALL[name]
    usual = usual_normalizations(order, 3)[NAMES[normalisation]]
    truth = replace(usual, size=(SIDE, SIDE), antialias=True)
    path = folder / "normalization" / f"{name}.keras"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        builder = tfds.builder_from_directory(stored / "tiny_imagenet_living/1.0.0")
        examples = builder.as_dataset(split=f"train[:{TRAINED_ON}]", as_supervised=True)
        images, labels = zip(*examples.as_numpy_iterator(), strict=True)
        _trained_small(np.stack(images), np.stack(labels), truth).save(path)
    foreign = dict.fromkeys(("things", "persons", "portraits", "digits", "fashion"), False)
    model = keras.saving.load_model(path)
    return Subject(name, model, truth, normalisation, {"living": True, **foreign})


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


def rows(subject: Subject, photographs: Mapping[str, list[np.ndarray]]) -> Iterator[Row]:
    """The network on each of its pools, on all images and on as few as are taken."""
    classes = [str(number) for number in range(subject.model.output_shape[-1])]
    teacher = Teacher(subject.model, "network", classes, preprocessing=subject.truth)
    for pool, is_own in subject.pools.items():
        for number in NUMBERS:
            images = photographs[pool][:number]
            said = check_normalization(teacher, images).to_config()
            yield Row(
                subject.name,
                subject.normalisation,
                pool,
                is_own,
                said["images"],
                said["declared"],
                said["usual"],
                _orders(subject, images[:ORDERED]) if number == NUMBERS[0] else (),
            )


def _orders(subject: Subject, images: Sequence[np.ndarray]) -> tuple[float, ...]:
    """See `Row`."""
    every = first_normalizations(subject.model, most=10_000)
    pixels = resized(images, subject.truth, 3)
    swapped = [batch[..., ::-1] for batch in pixels]
    found = []
    for paths in (every[:3], every[:: max(1, len(every) // THROUGHOUT)]):
        statistics = RunningStatistics(subject.model, paths)
        found += [statistics.divergence(each, subject.truth) for each in (pixels, swapped)]
    return tuple(found)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="of the networks; by default all")
    parser.add_argument("--data", type=Path, required=True, help="photographs as TFDS data sets")
    parser.add_argument("--folder", type=Path, default=Path(".networks"), help="of the networks")
    parser.add_argument("--keep", action="store_true", help="what was measured before")
    parser.add_argument("--write", type=Path, help="the guide whose table is written")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    results = {name: folder / "normalization" / f"{name}.json" for name in (*SMALL, *REAL)}
    wanted = arguments.names or list(results)
    missing = [name for name in wanted if not (arguments.keep and results[name].exists())]
    photographs = pools(arguments.data, folder) if missing else {}
    for name in missing:
        subject = small(name, folder, arguments.data) if name in SMALL else real(name, folder)
        measured = [asdict(row) for row in rows(subject, photographs)]
        results[name].write_text(json.dumps(measured, indent=1))
        print(name, flush=True)
    measured = [row for name in wanted for row in json.loads(results[name].read_text())]
    page = normalization_report.markdown([Row(**row) for row in measured])
    if arguments.write:
        guide = arguments.write.read_text(encoding="utf-8")
        arguments.write.write_text(
            text.filled(guide, normalization_report.MARK, page), encoding="utf-8"
        )
    print(page)


if __name__ == "__main__":
    main()

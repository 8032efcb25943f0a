"""Trains students in the ways that are compared, a row of `docs/results.json` each.

    python -m benchmarks.levers.students tiny_scratch --data ../shared/data
        --teachers runs/tiny_scratch/teachers [--rows joint per_source] [--seeds 0 1 2]
    python -m benchmarks.levers.students demo

Rows that are there already, for the same teachers, images, epochs and seed, are not trained again,
so that an interrupted run goes on where it was. `python -m benchmarks.levers.page` writes the page
from the rows.
"""

import argparse
import gc
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.levers import results, settings
from benchmarks.levers.methods import ROWS, TAP, Row, student
from benchmarks.levers.settings import Setting
from benchmarks.levers.stored import Stored
from keras_amalgam import data, evaluation
from keras_amalgam.evaluation.predictions import Predict
from keras_amalgam.tasks.label_space import LabelSpace
from keras_amalgam.training import agreement, train

BATCH = 64


class Bench:
    """What students are trained on and judged by.

    Args:
        setting: Teachers and images.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._kept_aside = _unlabelled(setting.kept_aside)
        self._space = LabelSpace({t.name: t.class_names for t in setting.teachers})
        self._stored: tuple[Any, Stored] | None = None

    def stored(self, row: Row, num_views: int) -> Stored:
        """Views with signals; those of one kind are kept, until others are asked for."""
        wanted = row.views, num_views, row.needs_features
        if self._stored is None or self._stored[0] != wanted:
            self._stored = None
            one = self.setting
            stored = Stored.of(
                one.unlabelled,
                one.teachers,
                one.augmentations[row.views],
                num_views,
                seed=0,
                with_features=row.needs_features,
            )
            self._stored = (wanted, stored)
        return self._stored[1]

    def images(self, row: Row, seed: int) -> tf.data.Dataset:
        """What a student is trained on: stored views with signals, or a new view each time."""
        if row.num_views is not None:
            return self.stored(row, row.num_views).batches(BATCH, seed)
        sources = {name: data.from_arrays(one) for name, one in self.setting.unlabelled.items()}
        augmentation = self.setting.augmentations[row.views]
        return data.stream(sources, batch_size=BATCH, augmentation=augmentation, seed=seed)

    def trained(self, name: str, epochs: int, seed: int) -> keras.Model:
        """A student trained in the way of that name."""
        row = ROWS[name]
        return train(
            row.method(self.setting, epochs, seed),
            self.setting.teachers,
            lambda: student(self.setting),
            TAP,
            self.images(row, seed),
            verbose=2,
        ).amalgamator.student

    def measured(self, model: keras.Model) -> dict[str, Any]:
        """Accuracy on the test images, and agreement with the teachers on images kept aside."""
        agreed = agreement(model, self.setting.teachers, self._kept_aside)
        return {
            "accuracy": self.accuracy(evaluation.predictor(model)),
            "agreement": results.rounded({**agreed.tasks, "joint": agreed.joint or 0.0}),
        }

    def accuracy(self, predict: Predict) -> dict[str, float]:
        """Accuracy by task, and `"joint"` over all classes."""
        tested = evaluation.evaluate(predict, self.setting.test, self._space)
        return results.rounded({**tested.task_accuracy, "joint": tested.joint_accuracy or 0.0})


def _unlabelled(collections: Mapping[str, np.ndarray]) -> tf.data.Dataset:
    """The images of all sources, with their numbers."""
    counts = [len(images) for images in collections.values()]
    source = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    images = np.concatenate([*collections.values()])
    return tf.data.Dataset.from_tensor_slices({"image": images, "source": source}).batch(250)


def run(bench: Bench, names: Sequence[str], seeds: Sequence[int], epochs: int, path: Path) -> None:
    """Train what has no row yet, and write each row as soon as it is known."""
    teachers = bench.setting.teachers
    about = {
        "benchmark": bench.setting.name,
        "teachers": {teacher.name: teacher.fingerprint() for teacher in teachers},
        "images": bench.setting.num_images,
    }
    alone = {
        **about,
        "row": "teachers",
        "seed": 0,
        "epochs": 0,
        "parameters": sum(teacher.count_params() for teacher in teachers),
    }
    if not results.has(path, alone):
        side_by_side = evaluation.teachers_predictor(teachers)
        results.add(path, {**alone, "accuracy": bench.accuracy(side_by_side)})
    # Those of one kind of views together, as these take minutes to make.
    wanted = sorted(
        ((name, seed) for seed in seeds for name in names),
        key=lambda one: (ROWS[one[0]].views != "plain", ROWS[one[0]].num_views or 0),
    )
    for name, seed in wanted:
        row = {**about, "epochs": epochs, "row": name, "seed": seed}
        if results.has(path, row):
            continue
        started = time.perf_counter()
        model = bench.trained(name, epochs, seed)
        row |= {"parameters": model.count_params(), **bench.measured(model)}
        results.add(path, row)
        seconds = time.perf_counter() - started
        print(f"{name}, seed {seed}, {seconds:.0f} s: {row['accuracy']}", flush=True)
        del model
        keras.backend.clear_session()
        gc.collect()


def main() -> None:
    """Train the rows that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("setting", choices=settings.NAMES)
    parser.add_argument("--data", type=Path, help="of tiny_scratch: the folder of TFDS data sets")
    parser.add_argument("--teachers", type=Path, help="of tiny_scratch: their folders")
    parser.add_argument("--results", type=Path, default=results.PATH, help="where rows go")
    parser.add_argument("--rows", nargs="+", choices=ROWS, metavar="ROW", help="by default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, help="instead of the setting's own")
    arguments = parser.parse_args()
    if arguments.setting == "demo":
        setting = settings.demo()
    elif arguments.data and arguments.teachers:
        setting = settings.tiny_scratch(arguments.data, arguments.teachers)
    else:
        parser.error("tiny_scratch needs --data and --teachers.")
    rows = arguments.rows or [n for n, row in ROWS.items() if row.views in setting.augmentations]
    epochs = arguments.epochs or settings.EPOCHS[setting.name]
    run(Bench(setting), rows, arguments.seeds, epochs, arguments.results)


if __name__ == "__main__":
    main()

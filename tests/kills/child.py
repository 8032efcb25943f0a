"""One process of a small run, which may kill itself at a chosen moment.

    python -m tests.kills.child FOLDER [--event NUMBER --when before|after] [--artifacts all]

FOLDER/out is the run. FOLDER/steps.log has a line for each step that was trained, FOLDER/events.log
one for each fsync and rename; NUMBER is that of one of these, from 1. At the end FOLDER/end.json
tells what the run ended with, without what differs between any two runs: times and latencies.
"""

import argparse
import json
import os
import runpy
import signal
from functools import partialmethod
from pathlib import Path

import keras
import numpy as np

import keras_amalgam as ka
from keras_amalgam import data
from keras_amalgam.experiments import Recipe, job, package
from keras_amalgam.training import Method, Stage, cosine_adamw
from tests.kills.ending import ended_with

CONFTEST = runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))
# What makes a result durable and puts it in its place.
MOMENTS = ("fsync", "replace", "rename")


def kill_at(log: Path, event: int, when: str) -> None:
    """Count what `os` is asked to make durable or to move, and die at one of these moments."""
    count = 0

    def counted(name, do):
        def call(*arguments, **options):
            nonlocal count
            count += 1
            own = count
            append(log, f"{own} {name}")
            if own == event and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = do(*arguments, **options)
            if own == event and when == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in MOMENTS:
        setattr(os, name, counted(name, getattr(os, name)))


def append(path: Path, line: str) -> None:
    """A line that is there whatever happens next."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


class LogSteps(keras.callbacks.Callback):
    """Notes each step that this process trains, as the optimizer counts."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self._log, self._last = log, 0

    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.optimizer.iterations)
        if step != self._last:
            append(self._log, str(step))
        self._last = step


def small_recipe() -> Recipe:
    """Two epochs of three steps, with dropout, augmentation and another order in each epoch.

    Both tasks have six test images.
    """
    teachers = [
        CONFTEST["small_teacher"]("digits", ["0", "1", "2"]),
        CONFTEST["small_teacher"]("shapes", ["circle", "square"], seed=2),
    ]

    def student():
        inputs = keras.Input((12, 12, 1))
        x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
        x = keras.layers.Dropout(0.2)(keras.layers.ReLU(name="student_map")(x))
        return ka.build_student(keras.Model(inputs, x, name="backbone"), teachers)

    def terms():
        return [ka.SoftTargets(), ka.CommonFeatures(units=2, weight=0.1)]

    images = data.from_arrays(CONFTEST["grey_images"](24))
    stream = data.stream(images, batch_size=8, augmentation=data.Augmentation(flip=True))
    method = Method("main", (Stage(terms, 2, cosine_adamw(1e-2)),))
    test = {
        teacher.name: data.labelled_from_arrays(
            CONFTEST["grey_images"](6, seed=number),
            np.arange(6) % len(teacher.class_names),
            class_names=teacher.class_names,
        )
        for number, teacher in enumerate(teachers, 1)
    }
    return Recipe("small", teachers, student, "student_map", {"train": stream}, test, [method])


def few_artifacts(student: keras.Model, recipe: Recipe, folder: Path) -> package.Packaged:
    """In place of the exporters, which take most of a run's time: one file and one folder."""
    weights = b"".join(variable.numpy().tobytes() for variable in student.weights)
    (folder / "student.tflite").write_bytes(weights)
    (folder / "student_files").mkdir()
    (folder / "student_files" / "weights").write_bytes(weights)
    return package.Packaged({}, 0.0, [f"{recipe.name}: a file and a folder."])


def main(folder: Path, options: argparse.Namespace) -> None:
    """Do what is not done yet."""
    compile_ = ka.Amalgamator.compile
    # Without a graph, which would take longer than the training.
    ka.Amalgamator.compile = partialmethod(compile_, run_eagerly=True)
    recipe = small_recipe()
    if options.artifacts == "few":
        package.package = few_artifacts
    kill_at(folder / "events.log", options.event, options.when)
    callbacks = [LogSteps(folder / "steps.log")]
    settings = job.Settings(minutes=0.0, callbacks=lambda: callbacks)
    job.run(recipe, folder / "out", settings, say=lambda line: None)
    end = json.dumps(ended_with(folder / "out"), indent=1)
    (folder / "end.json").write_text(end, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--event", type=int, default=0)
    parser.add_argument("--when", choices=("before", "after"))
    parser.add_argument("--artifacts", choices=("few", "all"), default="few")
    given = parser.parse_args()
    main(given.folder, given)

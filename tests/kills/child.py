"""One process of a small run, which may kill itself at a chosen moment.

    python -m tests.kills.child FOLDER [EVENT before|after]

FOLDER/out is the run. FOLDER/steps.log has a line for each step that was trained, FOLDER/events.log
one for each fsync and rename; EVENT is the number of one of these, from 1. At the end
FOLDER/end.json tells the hash of all that the training ended with, and its history.
"""

import hashlib
import json
import os
import runpy
import signal
import sys
from functools import partialmethod
from pathlib import Path

import keras
import numpy as np

import keras_amalgam as ka
from keras_amalgam import data
from keras_amalgam.experiments import Recipe, job
from keras_amalgam.training import Method, Stage, cosine_adamw
from keras_amalgam.training import state as states

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
    """Two epochs of three steps, with dropout, augmentation and another order in each epoch."""
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
    return Recipe("small", teachers, student, "student_map", {"train": stream}, {}, [method])


def hash_of_variables(path: Path) -> str:
    """A hash of all numbers of a state: student, terms, optimizer and random states."""
    found = hashlib.sha256()
    with np.load(path) as arrays:
        for name in sorted(set(arrays.files) - {"about"}):
            found.update(arrays[name].tobytes())
    return found.hexdigest()


def main(folder: Path, event: int = 0, when: str = "") -> None:
    """Train what is not trained yet."""
    compile_ = ka.Amalgamator.compile
    # Without a graph, which would take longer than the training.
    ka.Amalgamator.compile = partialmethod(compile_, run_eagerly=True)
    recipe = small_recipe()
    kill_at(folder / "events.log", event, when)
    callbacks = [LogSteps(folder / "steps.log")]
    settings = job.Settings(only="train", minutes=0.0, callbacks=lambda: callbacks)
    job.run(recipe, folder / "out", settings, say=lambda line: None)
    place = folder / "out" / "training" / "main" / "states"
    left, path = states.latest(place)
    weights = hash_of_variables(path)
    (folder / "end.json").write_text(json.dumps({"weights": weights, "history": left.history}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2] if sys.argv[2:] else 0), *sys.argv[3:4])

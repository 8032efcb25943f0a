"""Runs a recipe on two logical CPU devices; run by test_distributed_run.py in its own process.

Logical devices must be set before TensorFlow starts, and a process bears one MirroredStrategy.

Usage: python distributed_run.py FOLDER
"""

import json
import os
import pathlib
import runpy
import signal
import sys
from functools import partial

import keras
import tensorflow as tf

import keras_amalgam as ka
from keras_amalgam import data
from keras_amalgam.experiments import Recipe, job
from keras_amalgam.training import Method, Stage, cosine_adamw

CONFTEST = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "conftest.py"))
EPOCHS, STOPPED_AT = 3, 5  # Of four steps an epoch.


class Watch(keras.callbacks.Callback):
    """Counts steps and epochs, and how many replicas there are; stops the first training."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.stop_at, self.steps, self.epochs, self.replicas = stop_at, 0, 0, 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self.replicas = self.model.distribute_strategy.num_replicas_in_sync
        if self.steps == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1


def recipe():
    teachers = [
        CONFTEST["small_teacher"]("digits", ["0", "1", "2"]),
        CONFTEST["small_teacher"]("shapes", ["circle", "square"], size=(16, 16), seed=2),
    ]
    images = {
        name: data.from_arrays(CONFTEST["grey_images"](16, seed=seed))
        for seed, name in enumerate(("digits", "shapes"))
    }
    terms = lambda: [ka.SoftTargets("source"), ka.CommonFeatures(units=2, weight=0.1)]  # noqa: E731
    stage = Stage(terms, EPOCHS, cosine_adamw(1e-2))
    return Recipe(
        name="two devices",
        teachers=teachers,
        student=lambda: CONFTEST["small_student"](teachers, batch_norm=False),
        student_tap="student_map",
        streams={"train": data.stream(images, batch_size=8)},
        evaluation={},
        methods=[Method("main", (stage,))],
    )


def main(folder):
    # Two devices must exist before the strategy; GPUs would only make it another test.
    tf.config.set_visible_devices([], "GPU")
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    watched = {}
    for name, out, stop_at in (
        ("unbroken", "unbroken", None),
        ("interrupted", "broken", STOPPED_AT),
        ("resumed", "broken", None),
    ):
        watch = Watch(stop_at)
        settings = job.Settings(only="train", strategy=strategy, callbacks=partial(list, [watch]))
        try:
            job.run(recipe(), folder / out, settings)
            ended = "to the end"
        except KeyboardInterrupt:
            ended = "interrupted"
        watched[name] = [watch.steps, watch.epochs, watch.replicas, ended]
    try:
        job.run(recipe(), folder / "broken", job.Settings(only="train"))
    except ValueError as refused:
        watched["without the strategy"] = str(refused)
    (folder / "watched.json").write_text(json.dumps(watched))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))

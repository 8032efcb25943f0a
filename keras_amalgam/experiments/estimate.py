"""What a run will take, from a few steps of its training: nothing is kept of them."""

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_amalgam.experiments import made_from
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.experiments.run_folder import RunFolder
from keras_amalgam.text import file_size
from keras_amalgam.training import state
from keras_amalgam.training.amalgamator import Amalgamator
from keras_amalgam.training.progress import in_words

STEPS, STEADY = 10, 4  # Measured, of which so many build graphs and fill caches first.
# What packaging takes on two cores, measured on the demo's student and on MobileNetV3Small: most of
# it for every array of weights, whose size matters little.
PACKAGING, PACKAGING_PER_WEIGHT = 45.0, 0.5
# An artifact holds a float32 weight in four bytes, int8 in one: Keras, SavedModel, TFLite, ONNX.
_BYTES_OF_ARTIFACTS = 4 + 4 + 4 + 1 + 4


@dataclass(frozen=True)
class Estimate:
    """What was measured of a few steps, and what follows from it for the whole run.

    Attributes:
        seconds_per_step: Median of the measured steps.
        images_per_second: In the training.
        once: Seconds before the steps are steady: graphs are built, and images that are kept in
            memory are read.
        training: Seconds of that, and of all steps of all methods.
        after: Seconds of evaluation and packaging.
        memory: Largest number of bytes that the process held so far; `None` where the system does
            not tell.
        disk: Bytes that the run's folder will hold at most.
    """

    seconds_per_step: float
    images_per_second: float
    once: float
    training: float
    after: float
    memory: int | None
    disk: int

    @property
    def sentence(self) -> str:
        """What is said to the user."""
        memory = "" if self.memory is None else f"{file_size(self.memory)} of memory in training, "
        return (
            f"A step takes {1000 * self.seconds_per_step:.0f} ms, {self.images_per_second:.0f} "
            f"images/s: about {in_words(self.training)} of training and {in_words(self.after)} of "
            f"evaluation and packaging, {memory}up to {file_size(self.disk)} on the disk."
        )


def estimate(recipe: Recipe, keep: int = 3) -> Estimate:
    """Measure a few steps of a recipe's first training.

    Args:
        recipe: The recipe.
        keep: How many states of each training stay on the disk.
    """
    method = recipe.methods[0]
    stream = recipe.streams["train"]
    epoch = int(stream.cardinality())
    keras.utils.set_random_seed(method.seed)
    amalgamator = Amalgamator(
        recipe.student(), recipe.teachers, recipe.student_tap, terms=method.stages[0].terms()
    )
    amalgamator.compile(optimizer=method.stages[0].optimizer(epoch))
    timed = _Timed()
    few = stream.take(min(STEPS, epoch)).repeat(-(-STEPS // epoch))
    amalgamator.fit(few, epochs=1, verbose=0, callbacks=[timed])
    unsteady = timed.seconds[: min(STEADY, len(timed.seconds) - 1)]
    seconds = statistics.median(timed.seconds[len(unsteady) :])
    once = max(0.0, sum(unsteady) - len(unsteady) * seconds)
    batch = recipe.batch_size
    steps = sum(stage.length(epoch) for one in recipe.methods for stage in one.stages)
    tested = sum(_images(labelled, batch) for labelled in recipe.evaluation.values())
    kept = sum(
        np.prod(variable.shape) * 4
        for variable in (*amalgamator.variables, *amalgamator.optimizer.variables)
    )
    artifacts = amalgamator.student.count_params() * _BYTES_OF_ARTIFACTS
    return Estimate(
        seconds_per_step=seconds,
        images_per_second=batch / seconds,
        once=once,
        training=once + steps * seconds,
        # Teachers and student answer each test image once, without the way back.
        after=tested / batch * seconds + _packaging(amalgamator.student),
        memory=_peak_memory(),
        disk=int(kept * (keep + 1) * len(recipe.methods) + artifacts),
    )


def plan(
    recipe: Recipe,
    folder: Path,
    keep: int,
    say: Callable[[str], None],
    *,
    restart: bool = False,
) -> Estimate:
    """Say what a run would do and what it would take; nothing is written.

    Args:
        recipe: What would be run.
        folder: Where; what is done there already is said.
        keep: How many states of each training would stay.
        say: Where it goes.
        restart: Whether what is done there would be begun anew.
    """
    done = {} if restart else RunFolder(folder, say).steps
    about = made_from.images(recipe)
    epoch = int(recipe.streams["train"].cardinality())
    for method in recipe.methods:
        found = None if restart else state.latest(folder / "training" / method.name / "states")
        steps = sum(stage.length(epoch) for stage in method.stages)
        told = f"{steps} steps in epochs of {epoch}"
        changed = []
        if found:
            keras.utils.set_random_seed(method.seed)
            now = made_from.training(recipe, method, recipe.student(), about)
            changed = state.differences(found[0].made_from, now)
        if changed:
            told += f", refused as another was begun there: {'; '.join(changed)}"
        elif found and found[0].finished:
            told += ", done already"
        elif found:
            place = found[0].place
            told += f", begun: stage {place.stage + 1}, epoch {place.epoch + 1}, step {place.step}"
        say(f"training {method.name}: {told}.")
    later = ["evaluate"] if recipe.evaluation else []
    for step in (*later, "package", "report"):
        say(f"{step}: {'done before' if step in done else 'to do'}.")
    estimated = estimate(recipe, keep)
    say(estimated.sentence)
    return estimated


def steps_in(seconds: float, estimated: Estimate) -> int:
    """How many steps of training fit into a time, with what follows it; at least one."""
    return max(1, int((seconds - estimated.once - estimated.after) / estimated.seconds_per_step))


def cut_short(recipe: Recipe, steps: int) -> Recipe:
    """A recipe whose trainings have so many steps each.

    Epochs are added or left out as they are needed; the schedules fit the steps.

    Args:
        recipe: Each of its methods must have one stage.
        steps: Of each training.

    Raises:
        ValueError: If a method has several stages, between which nothing divides the steps.
    """
    several = [method.name for method in recipe.methods if len(method.stages) > 1]
    if several:
        raise ValueError(
            "Steps can be set for methods of one stage. Received: several stages in "
            f"{several}. Set the epochs of their stages in the recipe."
        )
    epoch = int(recipe.streams["train"].cardinality())
    epochs = -(-steps // epoch)
    methods = [
        replace(method, stages=(replace(method.stages[0], epochs=epochs, steps=steps),))
        for method in recipe.methods
    ]
    return replace(recipe, methods=methods)


class _Timed(keras.callbacks.Callback):
    """Notes how long each step takes."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self._clock, self._last = clock, clock()
        self.seconds: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = self._clock()
        self.seconds.append(now - self._last)
        self._last = now


def _packaging(student: keras.Model) -> float:
    """Seconds that packaging is expected to take."""
    return PACKAGING + PACKAGING_PER_WEIGHT * len(student.weights)


def _images(labelled: Any, batch: int) -> int:
    if not isinstance(labelled, tf.data.Dataset):
        return 0
    spec = tf.nest.flatten(labelled.element_spec)[0]
    return max(0, int(labelled.cardinality())) * (spec.shape[0] or batch)


def _peak_memory() -> int | None:
    """Bytes; the system counts kilobytes but on macOS, and does not tell on Windows."""
    if os.name == "nt":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

"""What a run will take, from a few steps of its training: nothing is kept of them."""

import operator
import os
import statistics
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_amalgam.experiments import choosing, first_look
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.report import formats
from keras_amalgam.text import file_size
from keras_amalgam.training import train
from keras_amalgam.training.method import Method
from keras_amalgam.training.progress import in_words

LATER = ("evaluate", "package", "report")
STEPS, STEADY = 10, 4  # Measured, of which so many build graphs and fill caches first.
# What packaging takes on two cores, measured on the demo's student and on MobileNetV3Small: most of
# it for every array of weights, whose size matters little.
PACKAGING, PACKAGING_PER_WEIGHT = 20.0, 0.5
# An artifact holds a float32 weight in four bytes, int8 in one: Keras, SavedModel, TFLite, ONNX.
_BYTES_OF_ARTIFACTS = 4 + 4 + 4 + 1 + 4


Paces = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Estimate:
    """What was measured of a few steps, and what follows from it for the whole run.

    Attributes:
        paces: By the method's name, the median seconds of a step in each of its stages.
        batch_size: Images per step.
        once: Seconds before the steps are steady: graphs are built, terms are fitted, and images
            that are kept in memory are read.
        training: Seconds of training that are left, `once` included.
        after: Seconds of evaluation and packaging, as far as they are left.
        memory: Largest number of bytes that the process held so far; `None` where the system does
            not tell.
        disk: Bytes that the run's folder will hold at most.
    """

    paces: Paces
    batch_size: int
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
            f"{self._paces_in_words()}: about {in_words(self.training)} of training and "
            f"{in_words(self.after)} of evaluation and packaging, {memory}up to "
            f"{file_size(self.disk)} on the disk."
        )

    def _paces_in_words(self) -> str:
        paces = [*self.paces.items()]
        if len(paces) == 1 and len(paces[0][1]) == 1:
            (seconds,) = paces[0][1]
            rate = self.batch_size / seconds
            return f"A step takes {1000 * seconds:.0f} ms, {rate:.0f} images/s"
        told = [
            f"{formats.words([f'{1000 * one:.0f}' for one in seconds])} ms ({name})"
            for name, seconds in paces
        ]
        return f"A step takes {formats.words(told)}"


def estimate(
    recipe: Recipe,
    keep: int = 3,
    missing: Mapping[str, Sequence[int]] | None = None,
    left: Collection[str] = LATER,
) -> Estimate:
    """Measure a few steps of every stage that a recipe trains.

    Args:
        recipe: The recipe.
        keep: How many states of each training stay on the disk.
        missing: By the training's name, the steps of each stage that are left; `None` for all.
        left: Steps of the run after the training that are left.

    Raises:
        ValueError: If the test images of a task cannot be evaluated.
    """
    batch, epoch = recipe.batch_size, int(recipe.streams["train"].cardinality())
    trainings = choosing.trainings(recipe, epoch)
    if missing is None:
        missing = {one.name: stage_lengths(one, epoch) for one in trainings}
    main, *others = recipe.candidates or recipe.methods
    wanted = [main, *(one for one in others if recipe.candidates or any(missing[one.name]))]
    first_look.check_tests(recipe, (main.stages[0].student or recipe.student)())
    measured = [_measure(recipe, method) for method in wanted]
    paces = {method.name: one.paces for method, one in zip(wanted, measured, strict=True)}
    once = sum(one.once for one in measured)
    training = _training_seconds(recipe, paces, missing, epoch)
    # Teachers and student answer each test image once, without the backward pass.
    tested = sum(_images(labelled, batch) for labelled in recipe.evaluation.values())
    student = measured[0].student
    after = {
        "evaluate": tested / batch * paces[main.name][-1],
        "package": packaging_seconds(student),
    }
    artifacts = student.count_params() * _BYTES_OF_ARTIFACTS
    return Estimate(
        paces=paces,
        batch_size=batch,
        once=once,
        training=once + training if training else 0.0,
        after=sum(after.get(step, 0.0) for step in left),
        memory=_peak_memory(),
        disk=int(max(one.kept for one in measured) * (keep + 1) * len(trainings) + artifacts),
    )


@dataclass(frozen=True)
class _Measured:
    """What some steps of each stage of a method tell."""

    paces: list[float]
    once: float
    kept: float  # Bytes of one state.
    student: keras.Model


def _measure(recipe: Recipe, method: Method) -> _Measured:
    """Train a few steps of every stage, as the run will."""
    stream, timed = recipe.streams["train"], []
    epoch = int(stream.cardinality())
    short = [replace(stage, epochs=-(-STEPS // epoch), steps=STEPS) for stage in method.stages]

    def callbacks(stage: int, steps: int) -> list[keras.callbacks.Callback]:
        timed.append(_Timed())
        return [timed[-1]]

    amalgamator = train(
        replace(method, stages=tuple(short)),
        recipe.teachers,
        recipe.student,
        recipe.student_tap,
        stream,
        callbacks=callbacks,
        verbose=0,
    ).amalgamator
    variables = (*amalgamator.variables, *amalgamator.optimizer.variables)
    return _Measured(
        paces=[one.pace for one in timed],
        once=sum(one.once for one in timed),
        kept=sum(np.prod(variable.shape) * 4 for variable in variables),
        student=amalgamator.student,
    )


def stage_lengths(method: Method, epoch: int) -> list[int]:
    """Steps of each stage."""
    return [stage.length(epoch) for stage in method.stages]


def _training_seconds(
    recipe: Recipe, paces: Paces, missing: Mapping[str, Sequence[int]], epoch: int
) -> float:
    """Of all steps that are left; the slowest candidate stands for the one that is chosen."""

    def seconds(name: str, steps: Sequence[int]) -> float:
        return sum(map(operator.mul, paces.get(name, ()), steps))

    known = sum(seconds(method.name, missing[method.name]) for method in recipe.methods)
    if not recipe.candidates:
        return known
    pairs = zip(recipe.candidates, choosing.trials(recipe), strict=True)
    tried = sum(seconds(method.name, missing[trial.name]) for method, trial in pairs)
    whole = ((one.name, stage_lengths(one, epoch)) for one in recipe.candidates)
    slowest = max(seconds(name, steps) for name, steps in whole)
    return known + tried + slowest


class _Timed(keras.callbacks.Callback):
    """Notes how long each step takes."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self._clock, self._last = clock, clock()
        self._seconds: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = self._clock()
        self._seconds.append(now - self._last)
        self._last = now

    @property
    def _unsteady(self) -> list[float]:
        return self._seconds[: min(STEADY, len(self._seconds) - 1)]

    @property
    def pace(self) -> float:
        """The median seconds of a step, of those that are steady."""
        return statistics.median(self._seconds[len(self._unsteady) :])

    @property
    def once(self) -> float:
        """What the first steps took beyond that."""
        return max(0.0, sum(self._unsteady) - len(self._unsteady) * self.pace)


def packaging_seconds(student: keras.Model) -> float:
    """How long packaging is expected to take, before it was done once."""
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

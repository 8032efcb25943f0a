"""What a run will take, from a few steps of its training: nothing is kept of them."""

import os
import statistics
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_amalgam.experiments import choosing, first_look, made_from
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.experiments.run_folder import RunFolder, listed
from keras_amalgam.models.taps import as_taps
from keras_amalgam.text import file_size
from keras_amalgam.training.amalgamator import Amalgamator
from keras_amalgam.training.keeping import Keeping
from keras_amalgam.training.method import Method
from keras_amalgam.training.progress import in_words
from keras_amalgam.training.state import State

LATER = ("evaluate", "package", "report")
STEPS, STEADY = 10, 4  # Measured, of which so many build graphs and fill caches first.
# What packaging takes on two cores, measured on the demo's student and on MobileNetV3Small: most of
# it for every array of weights, whose size matters little.
PACKAGING, PACKAGING_PER_WEIGHT = 20.0, 0.5
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
        training: Seconds of that, and of all steps of all methods that are left.
        after: Seconds of evaluation and packaging, as far as they are left.
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


def estimate(
    recipe: Recipe, keep: int = 3, steps: int | None = None, left: Collection[str] = LATER
) -> Estimate:
    """Measure a few steps of a recipe's first training.

    Args:
        recipe: The recipe.
        keep: How many states of each training stay on the disk.
        steps: Number of training steps that are left; `None` for all of them.
        left: Steps of the run after the training that are left.

    Raises:
        ValueError: If the test images of a task cannot be evaluated.
    """
    stream = recipe.streams["train"]
    epoch = int(stream.cardinality())
    methods = choosing.trainings(recipe, epoch)
    method = (recipe.candidates or methods)[0]
    keras.utils.set_random_seed(method.seed)
    stage = method.stages[0]
    student = (stage.student or recipe.student)()
    first_look.check_tests(recipe, student)
    amalgamator = Amalgamator(
        student,
        recipe.teachers,
        terms=stage.terms(),
        student_taps=as_taps(stage.student_tap or recipe.student_tap),
    )
    amalgamator.compile(optimizer=stage.optimizer(epoch))
    timed = _Timed()
    few = stream.take(min(STEPS, epoch)).repeat(-(-STEPS // epoch))
    amalgamator.fit(few, epochs=1, verbose=0, callbacks=[timed])
    unsteady = timed.seconds[: min(STEADY, len(timed.seconds) - 1)]
    seconds = statistics.median(timed.seconds[len(unsteady) :])
    once = max(0.0, sum(unsteady) - len(unsteady) * seconds)
    batch = recipe.batch_size
    if steps is None:
        steps = sum(stage.length(epoch) for one in methods for stage in one.stages)
    # Teachers and student answer each test image once, without the way back.
    tested = sum(_images(labelled, batch) for labelled in recipe.evaluation.values())
    after = {"evaluate": tested / batch * seconds, "package": packaging_seconds(student)}
    kept = sum(
        np.prod(variable.shape) * 4
        for variable in (*amalgamator.variables, *amalgamator.optimizer.variables)
    )
    artifacts = student.count_params() * _BYTES_OF_ARTIFACTS
    return Estimate(
        seconds_per_step=seconds,
        images_per_second=batch / seconds,
        once=once,
        training=once + steps * seconds if steps else 0.0,
        after=sum(after.get(step, 0.0) for step in left),
        memory=_peak_memory(),
        disk=int(kept * (keep + 1) * len(methods) + artifacts),
    )


def plan(
    recipe: Recipe,
    folder: Path,
    keep: int,
    say: Callable[[str], None],
    *,
    restart: bool = False,
) -> Estimate | None:
    """Say what a run would do and what it would take; nothing is written.

    Args:
        recipe: What would be run.
        folder: Where; what is done there already is said.
        keep: How many states of each training would stay.
        say: Where it goes.
        restart: Whether what is done there would be begun anew.

    Returns:
        What is left; `None` if that is nothing.

    Raises:
        ValueError: If the run would be refused, as the training there was begun with something
            else, or test images cannot be evaluated.
    """
    run, about = RunFolder(folder, say), made_from.images(recipe)
    done = {} if restart else run.steps
    later = LATER if recipe.evaluation else LATER[1:]
    steps, left = 0, set()
    if recipe.candidates and "choose" in done and not run.lost("choose"):
        recipe, _ = choosing.with_chosen(recipe, folder / choosing.CHOICE)
    elif recipe.candidates:
        names = [method.name for method in recipe.candidates]
        say(f"choose: to do, between {', '.join(names)}; the longest stands for the one chosen.")
    for method in choosing.trainings(recipe, int(recipe.streams["train"].cardinality())):
        begun = State() if restart else _begun(recipe, method, folder, about)
        missing = _say_training(method, begun, int(recipe.streams["train"].cardinality()), say)
        steps += missing
        left |= set(later) if missing else set()
    for step in later:
        lost = run.lost(step) if step in done else []
        # The report tells of the others.
        if step not in done or lost or (step == "report" and left):
            left.add(step)
        again = " again" if step in done else ""
        why = f", as {listed(lost)}" if lost else ""
        say(f"{step}: to do{again}{why}." if step in left else f"{step}: done already.")
    if not left:
        say("Nothing is left to do.")
        return None
    estimated = estimate(recipe, keep, steps, left)
    say(estimated.sentence)
    return estimated


def _begun(recipe: Recipe, method: Method, folder: Path, about: Mapping[str, Any]) -> State:
    """What is done of a training, refused if it was begun with something else."""
    keras.utils.set_random_seed(method.seed)
    student = (method.stages[0].student or recipe.student)()
    made = made_from.training(recipe, method, student, about)
    return Keeping(folder / "training" / method.name / "states", made).begun()[0]


def _say_training(method: Method, begun: State, epoch: int, say: Callable[[str], None]) -> int:
    """Say what there is to do of a training; gives its steps that are left."""
    place, lengths = begun.place, [stage.length(epoch) for stage in method.stages]
    steps = sum(lengths)
    told = f"training {method.name}: {steps} steps in epochs of {epoch}"
    if begun.finished:
        say(f"{told}, done already.")
        return 0
    behind = sum(lengths[: place.stage]) + place.epoch * epoch + place.step
    if behind:
        told += f", begun: stage {place.stage + 1}, epoch {place.epoch + 1}, step {place.step}"
    say(f"{told}.")
    return steps - behind


def steps_in(seconds: float, estimated: Estimate, candidates: int = 0) -> int:
    """How many steps of training fit into a time, with what follows it.

    Args:
        seconds: The time.
        estimated: What was measured.
        candidates: Methods that are tried before, each on a share of these steps.

    Raises:
        ValueError: If not even one does.
    """
    beside = estimated.once + estimated.after
    trials = 1.0 + choosing.SHARE * candidates
    steps = int((seconds - beside) / (estimated.seconds_per_step * trials))
    if steps < 1:
        least = beside + estimated.seconds_per_step
        raise ValueError(
            f"No step of training fits into {in_words(seconds)}. Expected: more than "
            f"{in_words(least)}, as reading, evaluation and packaging take {in_words(beside)}. "
            "Give more hours, or a number of steps."
        )
    return steps


def cut_short(recipe: Recipe, steps: int) -> Recipe:
    """A recipe whose trainings have so many steps each.

    Epochs are added or left out as they are needed; the schedules fit the steps.

    Args:
        recipe: Each of its methods must have one stage.
        steps: Of each training, but for the trials that one is chosen by.

    Raises:
        ValueError: If a method has several stages, between which nothing divides the steps.
    """
    every = [*recipe.methods, *recipe.candidates]
    several = [method.name for method in every if len(method.stages) > 1]
    if several:
        raise ValueError(
            "Steps can be set for methods of one stage. Received: several stages in "
            f"{several}. Set the epochs of their stages in the recipe."
        )
    epoch = int(recipe.streams["train"].cardinality())
    epochs = -(-steps // epoch)

    def cut(methods: Sequence[Method]) -> list[Method]:
        return [
            replace(method, stages=(replace(method.stages[0], epochs=epochs, steps=steps),))
            for method in methods
        ]

    return replace(recipe, methods=cut(recipe.methods), candidates=cut(recipe.candidates))


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

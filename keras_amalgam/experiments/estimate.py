"""What a run will take, from a few steps of its training: nothing is kept of them."""

import itertools
import operator
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
from keras_amalgam.report import formats
from keras_amalgam.text import file_size
from keras_amalgam.training import train
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
        missing = {one.name: _lengths(one, epoch) for one in trainings}
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


def _lengths(method: Method, epoch: int) -> list[int]:
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
    slowest = max(seconds(method.name, _lengths(method, epoch)) for method in recipe.candidates)
    return known + tried + slowest


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
    missing, left = {}, set()
    if recipe.candidates and "choose" in done and not run.lost("choose"):
        recipe, _ = choosing.with_chosen(recipe, folder / choosing.CHOICE)
    elif recipe.candidates:
        names = [method.name for method in recipe.candidates]
        say(f"choose: to do, between {', '.join(names)}; the slowest stands for the one chosen.")
    epoch = int(recipe.streams["train"].cardinality())
    for method in choosing.trainings(recipe, epoch):
        begun = State() if restart else _begun(recipe, method, folder, about)
        missing[method.name] = _say_training(method, begun, epoch, say)
        left |= set(later) if any(missing[method.name]) else set()
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
    estimated = estimate(recipe, keep, missing, left)
    say(estimated.sentence)
    return estimated


def _begun(recipe: Recipe, method: Method, folder: Path, about: Mapping[str, Any]) -> State:
    """What is done of a training, refused if it was begun with something else."""
    keras.utils.set_random_seed(method.seed)
    student = (method.stages[0].student or recipe.student)()
    made = made_from.training(recipe, method, student, about)
    return Keeping(folder / "training" / method.name / "states", made).begun()[0]


def _say_training(
    method: Method, begun: State, epoch: int, say: Callable[[str], None]
) -> list[int]:
    """Say what there is to do of a training; gives the steps of each stage that are left."""
    place, lengths = begun.place, _lengths(method, epoch)
    told = f"training {method.name}: {sum(lengths)} steps in epochs of {epoch}"
    if begun.finished:
        say(f"{told}, done already.")
        return [0] * len(lengths)
    done = [*lengths[: place.stage], place.epoch * epoch + place.step]
    if any(done):
        told += f", begun: stage {place.stage + 1}, epoch {place.epoch + 1}, step {place.step}"
    say(f"{told}.")
    return [all_ - behind for all_, behind in itertools.zip_longest(lengths, done, fillvalue=0)]


def steps_in(seconds: float, estimated: Estimate, recipe: Recipe) -> int:
    """How many steps each training of a recipe can have in a time, with what follows them.

    Args:
        seconds: The time.
        estimated: What was measured of the recipe.
        recipe: Each of its methods has one stage.

    Raises:
        ValueError: If not even one does.
    """
    beside = estimated.once + estimated.after
    paces = {name: one for name, (one,) in estimated.paces.items()}
    tried = [paces[method.name] for method in recipe.candidates]
    # One step of each; of the candidates, each on its share and the slowest as the chosen one.
    of_each = sum(paces[method.name] for method in recipe.methods)
    of_each += choosing.SHARE * sum(tried) + max(tried, default=0.0)
    steps = int((seconds - beside) / of_each)
    if steps < 1:
        raise ValueError(
            f"No step of training fits into {in_words(seconds)}. Expected: more than "
            f"{in_words(beside + of_each)}, as reading, evaluation and packaging take "
            f"{in_words(beside)}. Give more hours, or a number of steps."
        )
    return steps


def check_one_stage(recipe: Recipe) -> None:
    """Refuse methods of several stages, between which nothing divides a number of steps.

    Args:
        recipe: The recipe.

    Raises:
        ValueError: Naming them.
    """
    every = [*recipe.methods, *recipe.candidates]
    several = [method.name for method in every if len(method.stages) > 1]
    if several:
        raise ValueError(
            "Steps can be set for methods of one stage. Received: several stages in "
            f"{several}. Set the epochs of their stages in the recipe."
        )


def cut_short(recipe: Recipe, steps: int) -> Recipe:
    """A recipe whose trainings have so many steps each.

    Epochs are added or left out as they are needed; the schedules fit the steps.

    Args:
        recipe: Each of its methods must have one stage.
        steps: Of each training, but for the trials that one is chosen by.

    Raises:
        ValueError: If a method has several stages.
    """
    check_one_stage(recipe)
    epoch = int(recipe.streams["train"].cardinality())
    epochs = -(-steps // epoch)

    def cut(methods: Sequence[Method]) -> list[Method]:
        return [
            replace(method, stages=(replace(method.stages[0], epochs=epochs, steps=steps),))
            for method in methods
        ]

    told = {"steps" if name == "epochs" else name: one for name, one in recipe.settings.items()}
    return replace(
        recipe,
        methods=cut(recipe.methods),
        candidates=cut(recipe.candidates),
        settings={**told, "steps": steps} if "epochs" in recipe.settings else recipe.settings,
    )


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

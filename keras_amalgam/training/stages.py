"""Running a method: its stages, one `fit` each, kept on disk as they go."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_amalgam.models.batch import Batch
from keras_amalgam.models.taps import Taps, as_taps
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.training import made_from, state
from keras_amalgam.training.amalgamator import Amalgamator
from keras_amalgam.training.interruption import Request, requests
from keras_amalgam.training.keeping import Keeping, KeepState, StopAfter
from keras_amalgam.training.method import Method, Stage
from keras_amalgam.training.passing_on import carry_terms, frozen, load_student, save_student
from keras_amalgam.training.state import Place, State


@dataclass(frozen=True)
class Amalgamation:
    """What a training left.

    Attributes:
        method: How it was trained.
        amalgamator: Of the last stage, with the student.
        history: Values by key, one for each epoch of all stages; `None` where the epoch's stage has
            no such key.
        seconds: Time spent training, over all processes that took part.
    """

    method: Method
    amalgamator: Amalgamator
    history: dict[str, list[float | None]]
    seconds: float


def train(
    method: Method,
    teachers: Sequence[Teacher],
    student: Callable[[], keras.Model],
    student_tap: Taps | None,
    images: tf.data.Dataset,
    *,
    keeping: Keeping | None = None,
    logs: str | Path | None = None,
    callbacks: Callable[[int, int], Sequence[Any]] = lambda stage, steps: (),
    strategy: tf.distribute.Strategy | None = None,
    verbose: int | str = "auto",
) -> Amalgamation:
    """Train a new student by a method, or go on with what an earlier process began.

    A training that is kept and goes on gives the weights of one that was never interrupted, on the
    same machine, if its images are a `data.stream` or come in one order. The first Ctrl-C or
    SIGTERM lets the step end, writes the state and raises `Interrupted`.

    Args:
        method: Its stages.
        teachers: The teachers, in the order of their sources.
        student: Makes the student.
        student_tap: The student's layer to imitate with, or several by tap name; `None` where no
            term reads features.
        images: Unlabelled batches of known number, one epoch.
        keeping: Where the state is kept; `None` keeps nothing. Teachers, method, student and the
            number of batches are noted there, too, and a training that was begun with others is
            not continued.
        logs: Folder for TensorBoard; each stage writes a folder of its own.
        callbacks: Makes the callbacks of a stage, from its number and its steps in one epoch. One
            that has `get_state()` and `set_state(…)`, of what JSON can hold, goes on as it was.
        strategy: Under which student and terms are made and trained.
        verbose: As in `keras.Model.fit`.

    Returns:
        The trained student and its history.

    Raises:
        Interrupted: If it was told to end; the state is on disk.
        ValueError: If the kept training was made from something else, the number of batches is not
            known, or a stage does not fit its student or teachers; nothing is trained then.
    """
    steps = _number_of(images)
    if keeping:
        keeping = _noting(keeping, method, teachers, student, student_tap, steps)
    begun, path = (State(), None) if keeping is None else keeping.begun()
    if len(method.stages) > 1 and begun.place == Place():
        rehearse(method, teachers, student, student_tap, images)
    scope = strategy.scope if strategy else contextlib.nullcontext
    keras.utils.set_random_seed(method.seed)
    with scope():
        trained = _student_before(method, begun.place.stage, student, keeping)
    amalgamator: Any = None
    for number in range(begun.place.stage, len(method.stages)):
        stage = method.stages[number]
        if number:
            # Of its own, so that a stage begins alike whatever was drawn in those before it.
            keras.utils.set_random_seed(method.seed + number)
        with scope():
            amalgamator = _of_stage(method, number, trained, teachers, student_tap, amalgamator)
        trained = amalgamator.student
        last = number == len(method.stages) - 1
        with frozen(amalgamator, stage.freeze):
            with scope():
                amalgamator.compile(optimizer=stage.optimizer(stage.length(steps)))
                amalgamator.optimizer.build(amalgamator.trainable_variables)
            means = state.restore(path, amalgamator) if path else []
            path = None
            if not begun.finished:  # Without an epoch left, `fit` does what it does at its end.
                shown = _images_of(stage, images)
                given = [*callbacks(number, steps), *_own_callbacks(stage, begun, steps, logs)]
                begun = _fit(amalgamator, stage, shown, begun, means, keeping, given, last, verbose)
        if last and stage.freeze:
            # All can be trained again, which the optimizer of the stage knows nothing of.
            with scope():
                amalgamator.compile(optimizer=stage.optimizer(stage.length(steps)))
        if not last:
            if keeping and method.stages[number + 1].teachers:
                save_student(keeping.path, number, trained)
            begun = dataclasses.replace(
                begun, place=Place(number + 1), epochs_before=begun.epochs, callbacks={}
            )
    history = {key: [*values] for key, values in begun.history.items()}
    return Amalgamation(method, amalgamator, history, begun.seconds)


def rehearse(
    method: Method,
    teachers: Sequence[Teacher],
    student: Callable[[], keras.Model],
    student_tap: Taps | None,
    images: tf.data.Dataset | None = None,
) -> None:
    """Make every stage of a method and train none: what does not fit is refused at once.

    Args:
        method: As in `train`, like the others.
        teachers: The teachers, in the order of their sources.
        student: Makes the student.
        student_tap: The student's layer to imitate with, or several by tap name.
        images: The training's, where they are there already.

    Raises:
        ValueError: If a stage does not fit its student, teachers or images, or freezes what is not
            there.
    """
    before, amalgamator = _student_before(method, 0, student, None), None
    for number, stage in enumerate(method.stages):
        amalgamator = _of_stage(method, number, before, teachers, student_tap, amalgamator)
        with frozen(amalgamator, stage.freeze):
            before = amalgamator.student
        if images is not None:
            _images_of(stage, images)


def _number_of(images: tf.data.Dataset) -> int:
    """Of the batches in one epoch, which the schedules need."""
    number = int(images.cardinality())
    if number < 1:
        kinds = {
            int(tf.data.INFINITE_CARDINALITY): "infinitely many",
            int(tf.data.UNKNOWN_CARDINALITY): "unknown",
        }
        raise ValueError(
            "`images` must be batches of known number. Received: "
            f"{kinds.get(number, 'none')}. Use images.take(number) or "
            "images.apply(tf.data.experimental.assert_cardinality(number))."
        )
    return number


def _noting(
    keeping: Keeping,
    method: Method,
    teachers: Sequence[Teacher],
    student: Callable[[], keras.Model],
    student_tap: Taps | None,
    steps: int,
) -> Keeping:
    """Where a training is kept, with what it depends on in any case."""
    known = keeping.made_from
    if "student" not in known:
        about = {
            "architecture": made_from.of_architecture(student()),
            "taps": made_from.of_taps(student_tap) if student_tap else None,
        }
        known = {"student": about, "batches": steps, **known}
    if "teachers" not in known:
        known = {"teachers": made_from.of_teachers(teachers), **known}
    if "method" not in known:
        known = {"method": made_from.of_method(method), **known}
    return dataclasses.replace(keeping, made_from=known)


def _student_before(
    method: Method,
    number: int,
    student: Callable[[], keras.Model],
    keeping: Keeping | None,
) -> keras.Model:
    """The student that a stage finds when a process begins with it."""
    stages = method.stages
    made = [stage.student for stage in stages[: max(1, number)] if stage.student]
    found = (made[-1] if made else student)()
    if number and stages[number].teachers and keeping:
        load_student(keeping.path, number - 1, found)
    return found


def _of_stage(
    method: Method,
    number: int,
    before: keras.Model,
    teachers: Sequence[Teacher],
    student_tap: Taps | None,
    earlier: Amalgamator | None,
) -> Amalgamator:
    """A stage's amalgamator, with the student and the terms of the one before it, or new ones."""
    stage = method.stages[number]
    stage_before = method.stages[number - 1] if number else None
    student = stage.student() if stage.student and stage_before else before
    known = stage.teachers(before) if stage.teachers else teachers
    taps = as_taps(student_tap if stage.student_tap is None else stage.student_tap)
    amalgamator = Amalgamator(student, known, terms=stage.terms(), student_taps=taps)
    of_others = stage.teachers or (stage_before and stage_before.teachers)
    if earlier is not None and student is before and not of_others:
        carry_terms(earlier, amalgamator)
    return amalgamator


def _own_callbacks(
    stage: Stage, begun: State, steps: int, logs: str | Path | None
) -> Iterator[keras.callbacks.Callback]:
    """What ends a stage in the midst of an epoch, and what writes its logs."""
    if stage.length(steps) < stage.epochs * steps:
        yield StopAfter(stage.length(steps), begun.place, steps)
    if logs is not None:
        yield keras.callbacks.TensorBoard(Path(logs, f"stage_{begun.place.stage}"))


def _images_of(stage: Stage, images: tf.data.Dataset) -> tf.data.Dataset:
    """The batches of a stage, refused if they are more or fewer than the training's."""
    shown = images if stage.images is None else stage.images(images)
    if stage.teachers is not None:
        shown = _without_signals(shown)
    if shown is images:
        return images
    if int(shown.cardinality()) != int(images.cardinality()):
        raise ValueError(
            "A stage's images must be as many batches as the training's. Received: "
            f"{int(shown.cardinality())} from {stage.images!r}, where the training has "
            f"{int(images.cardinality())}. Repeat or take batches in `Stage(images=…)`."
        )
    names = getattr(images, "source_names", None)
    if names is not None and getattr(shown, "source_names", None) is None:
        shown.source_names = names  # pyright: ignore[reportAttributeAccessIssue]
    return shown


def _without_signals(images: tf.data.Dataset) -> tf.data.Dataset:
    """Batches that bring no signals along: they would be taken for those of a stage's teachers."""
    if not Batch.of(images.element_spec).signals:
        return images
    return images.map(
        lambda element: dataclasses.replace(Batch.of(element), signals={}).as_element()
    )


def _fit(
    amalgamator: Amalgamator,
    stage: Stage,
    images: tf.data.Dataset,
    begun: State,
    means: Sequence[Any],
    keeping: Keeping | None,
    callbacks: list[Any],
    last: bool,
    verbose: int | str,
) -> State:
    """One stage from where it stands to its end, and the state that it ends with."""
    for number, kept in begun.callbacks.items():
        callbacks[int(number)].set_state(kept)
    with requests() if keeping else contextlib.nullcontext(Request()) as request:
        keeper = KeepState(keeping, begun, means, request, callbacks)
        amalgamator.fit(
            images,
            epochs=begun.epochs_before + stage.epochs,
            initial_epoch=begun.epochs_before + begun.place.epoch,
            callbacks=[*callbacks, keeper],
            verbose=verbose,
        )
        return keeper.finish(stage.epochs, last)

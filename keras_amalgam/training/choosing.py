"""Choosing between methods without a label: short runs, judged by agreement with the teachers."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import keras
import numpy as np
import tensorflow as tf

from keras_amalgam.images.checks import check_images
from keras_amalgam.models.batch import Batch
from keras_amalgam.models.taps import Taps
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.quiet import quiet_loggers
from keras_amalgam.tasks import Classification
from keras_amalgam.tasks.label_space import LabelSpace
from keras_amalgam.training.guards import check_sources
from keras_amalgam.training.keeping import Keeping
from keras_amalgam.training.method import Method
from keras_amalgam.training.stages import rehearse, train

By = Literal["tasks", "joint"]


@dataclass(frozen=True)
class Agreement:
    """How often a student decides as the teachers do, right or wrong.

    Attributes:
        tasks: By task a fraction in 0..1, on the images of the teacher's own source, and on those
            of unknown sources.
        joint: Over the classes of all tasks, the task of an image being unknown to the student:
            how often it decides as the teacher of the image's source does. `None` if no image's
            source is known, there is one teacher, or a task does not choose among classes.
        num_images: How many were looked at.
    """

    tasks: Mapping[str, float]
    joint: float | None
    num_images: int

    def score(self, by: By) -> float:
        """The number that methods are ranked by."""
        return float(np.mean([*self.tasks.values()])) if by == "tasks" else float(self.joint or 0)


@dataclass(frozen=True)
class Trial:
    """A short run of one method.

    Attributes:
        method: The method's name.
        epochs: Number of epochs of the short run, over all its stages.
        parameters: Number of weights of the student that it left.
        agreement: How that student agrees with the teachers.
        seconds: Wall-clock time of the run.
    """

    method: str
    epochs: int
    parameters: int
    agreement: Agreement
    seconds: float


@dataclass(frozen=True)
class Choice:
    """Which method was chosen, and what that was judged by.

    Attributes:
        method: The method whose short run left the student that agrees best with the teachers, at
            its full length.
        trials: The short runs, in the order of the methods.
        by: What was ranked.
        diverged: Methods whose loss did not stay finite, with where that was.
    """

    method: Method
    trials: tuple[Trial, ...]
    by: By
    diverged: Mapping[str, str] = field(default_factory=dict)


def choose(
    methods: Sequence[Method],
    teachers: Sequence[Teacher],
    student: Callable[[], keras.Model],
    student_tap: Taps,
    images: tf.data.Dataset,
    kept_aside: tf.data.Dataset,
    *,
    share: float = 0.2,
    by: By = "tasks",
    keeping: Callable[[Method], Keeping] | None = None,
    callbacks: Callable[[Method, int, int], Sequence[Any]] = lambda method, stage, steps: (),
    strategy: tf.distribute.Strategy | None = None,
    verbose: int | str = "auto",
) -> Choice:
    """Try each method on a share of its epochs, and see whose student agrees with the teachers.

    No method wins everywhere, and nobody's labels are needed to tell: a student that decides as
    its teachers do on images that neither was trained on has learned from them. What is chosen is
    not trained any further here: `train(choice.method, …)` does that.

    Args:
        methods: At least two, each with a name of its own.
        teachers: The teachers, in the order of their sources.
        student: Makes the student; a method may bring its own.
        student_tap: The student's layer to imitate with, or several by tap name.
        images: Unlabelled batches of known number, one epoch.
        kept_aside: Unlabelled batches of other images, not augmented. With sources, each teacher is
            compared on its own images alone.
        share: Part of each stage's epochs and steps in the short runs, above 0 and at most 1; at
            least one epoch.
        by: `"tasks"`: the mean over the tasks. `"joint"`: the decision among the classes of all
            tasks, for students that are not told the task of an image.
        keeping: Makes the place where the short run of a method keeps its state, so that it can go
            on; `None` keeps nothing.
        callbacks: Makes the callbacks of a short run's stage; see `train`.
        strategy: Under which the students are trained; see `train`.
        verbose: What `fit` prints; see `keras.Model.fit`.

    Returns:
        The choice.

    Raises:
        ValueError: If an argument is out of range, no images are kept aside, they do not allow
            `by="joint"`, or a method does not fit. Nothing is trained then.
        FloatingPointError: If the loss of every method diverges. A single method that diverges is
            left out with a warning.
        Interrupted: If it was told to end, and the states are kept; see `train`.

    Example:
    ```python
    choice = choose(
        [methods.reused_heads(teachers, reusing), methods.standardized(teachers)],
        teachers, make_student, "backbone", images, kept_aside,
    )
    trained = train(choice.method, teachers, make_student, "backbone", images)
    ```
    """
    methods = list(methods)
    check_candidates(methods)
    _check(share, by)
    _check_kept_aside(teachers, images, kept_aside, by)
    for method in methods:
        rehearse(method, teachers, student, student_tap, images)
    trials, diverged = [], {}
    for method in methods:
        started = time.perf_counter()
        try:
            trained = train(
                shortened(method, share),
                teachers,
                student,
                student_tap,
                images,
                keeping=keeping(method) if keeping else None,
                callbacks=lambda stage, steps, method=method: callbacks(method, stage, steps),
                strategy=strategy,
                verbose=verbose,
            )
        except FloatingPointError as error:
            diverged[method.name] = str(error)
            warnings.warn(f"The method {method.name!r} is left out: {error}", stacklevel=2)
            continue
        left = trained.amalgamator.student
        agreed = agreement(left, teachers, kept_aside)
        seconds = time.perf_counter() - started
        epochs = len(trained.history["loss"])
        trials.append(Trial(method.name, epochs, left.count_params(), agreed, seconds))
    if not trials:
        raise FloatingPointError(f"No method stayed finite. Received: {diverged}. Lower the rates.")
    best = max(trials, key=lambda trial: trial.agreement.score(by))
    (chosen,) = [method for method in methods if method.name == best.method]
    return Choice(chosen, tuple(trials), by, diverged)


def shortened(method: Method, share: float) -> Method:
    """A method whose stages have a share of their epochs and steps, at least one of each."""

    def part(number: int) -> int:
        return max(1, round(share * number))

    stages = tuple(
        replace(stage, epochs=part(stage.epochs), steps=stage.steps and part(stage.steps))
        for stage in method.stages
    )
    return replace(method, stages=stages)


def agreement(
    student: keras.Model, teachers: Sequence[Teacher], images: tf.data.Dataset
) -> Agreement:
    """How often a student decides as its teachers do, on unlabelled images.

    Args:
        student: Takes raw images and returns `{task: answer}`.
        teachers: In the order of the sources.
        images: Batches as for `Amalgamator.fit`; signals that come with them are used.

    Raises:
        ValueError: If there is no image, or none of a teacher.
    """
    counted = _Counted(teachers)
    models = {teacher.name: teacher.answers(student.input_shape[-1]) for teacher in teachers}
    for element in images:
        batch = Batch.of(element)
        own = {task: np.asarray(answer) for task, answer in _answers(student, batch).items()}
        theirs = {
            name: np.asarray(
                batch.signals[name].answers[name]
                if name in batch.signals
                else _answers(model, batch)[name]
            )
            for name, model in models.items()
        }
        counted.add(own, theirs, batch)
    return counted.agreement()


def _answers(model: keras.Model, batch: Batch) -> Mapping[str, Any]:
    with quiet_loggers("tensorflow"):  # It warns of each model's graph, and of the last batch's.
        return model.predict_on_batch(batch.images)


class _Counted:
    """Decisions that agree, counted batch after batch."""

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        self._tasks = {teacher.name: teacher.task for teacher in teachers}
        self._names = list(self._tasks)
        self._seen = dict.fromkeys(self._tasks, 0)
        self._alike = dict.fromkeys(self._tasks, 0.0)
        self._joint: list[np.ndarray] = []
        self._num_images = 0
        classes = all(isinstance(task, Classification) for task in self._tasks.values())
        names = {name: task.class_names for name, task in self._tasks.items()}
        self._space = LabelSpace(names) if classes and len(names) > 1 else None

    @property
    def compares_jointly(self) -> bool:
        """Whether there is a decision among the classes of several teachers."""
        return self._space is not None

    def see(self, batch: Batch) -> list[np.ndarray]:
        """Count one batch's images; which of them each teacher is compared on."""
        check_images(batch.images, "Images kept aside")
        check_sources(batch.source, self._names)
        unknown = np.full(len(batch.images), -1)
        source = unknown if batch.source is None else np.asarray(batch.source)
        self._num_images += len(source)
        own = [(source == number) | (source < 0) for number in range(len(self._tasks))]
        for name, mine in zip(self._tasks, own, strict=True):
            self._seen[name] += int(mine.sum())
        return own

    def check_seen(self) -> None:
        """Raise a `ValueError` if there is no image to compare a teacher on."""
        unseen = [name for name, number in self._seen.items() if not number]
        if unseen:
            raise ValueError(
                "Agreement with a teacher is measured on images of its source, or of unknown ones. "
                f"Received: {self._num_images} images, none of {unseen}. Keep some of each aside."
            )

    def add(
        self, own: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], batch: Batch
    ) -> None:
        """Count one batch's decisions."""
        source = None if batch.source is None else np.asarray(batch.source)
        for (name, task), mine in zip(self._tasks.items(), self.see(batch), strict=True):
            self._alike[name] += float(task.agreement(own[name], theirs[name])[mine].sum())
        if self._space is not None and source is not None:
            places = [self._space.indices[name][theirs[name].argmax(-1)] for name in self._tasks]
            known = source >= 0
            believed = np.stack(places)[source[known], np.flatnonzero(known)]
            decided = np.asarray(self._space.join(own)).argmax(-1)[known]
            self._joint.append(decided == believed)

    def agreement(self) -> Agreement:
        """What was counted."""
        self.check_seen()
        joint = np.concatenate(self._joint) if self._joint else np.empty(0)
        return Agreement(
            {name: self._alike[name] / number for name, number in self._seen.items()},
            float(joint.mean()) if len(joint) else None,
            self._num_images,
        )


def _check_kept_aside(
    teachers: Sequence[Teacher], images: tf.data.Dataset, kept_aside: tf.data.Dataset, by: By
) -> None:
    """Refuse images on which agreement cannot be measured, before anything is trained."""
    if not isinstance(kept_aside, tf.data.Dataset):
        raise TypeError(
            "`kept_aside` must be batches of images. Received: a "
            f"{type(kept_aside).__name__}. Use tf.data.Dataset.from_tensor_slices(…).batch(64)."
        )
    shapes = [Batch.of(one.element_spec).images.shape for one in (kept_aside, images)]
    if all(shape.rank == 4 for shape in shapes) and shapes[0][3] != shapes[1][3]:
        raise ValueError(
            "Images kept aside must have the channels of those that are trained on. Received: "
            f"{tuple(shapes[0])}, where the training's are {tuple(shapes[1])}. Bring them to one "
            "canvas with data.stream(…, canvas=…)."
        )
    counted = _Counted(teachers)
    known = 0
    for element in kept_aside:
        batch = Batch.of(element)
        known += 0 if batch.source is None else int((np.asarray(batch.source) >= 0).sum())
        counted.see(batch)
    counted.check_seen()
    if by == "joint" and not (known and counted.compares_jointly):
        raise ValueError(
            "A joint decision needs two or more teachers of classes, and images kept aside whose "
            "source is known. Received: by='joint' and none to measure it on. Use by='tasks'."
        )


def check_candidates(methods: Sequence[Method]) -> None:
    """Raise a `ValueError` unless there are two or more methods, each with a name of its own."""
    names = [method.name for method in methods]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            "There must be two or more methods to choose from, each with a name of its own. "
            f"Received: {names}. Rename one with dataclasses.replace(method, name=…)."
        )


def _check(share: float, by: By) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"`share` must be above 0 and at most 1. Received: {share}.")
    if by not in get_args(By):
        raise ValueError(f"`by` must be one of {get_args(By)}. Received: {by!r}.")

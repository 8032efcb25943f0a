"""What a runnable experiment consists of."""

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import tensorflow as tf

from keras_amalgam.evaluation import Evaluation, evaluate
from keras_amalgam.evaluation.predictions import Predict
from keras_amalgam.models.taps import Taps
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.report import Goal, Report, records
from keras_amalgam.report.results import Setting
from keras_amalgam.tasks.label_space import LabelSpace
from keras_amalgam.training import Method
from keras_amalgam.training.choosing import check_candidates
from keras_amalgam.training.epoch_numbers import first_batch


class Streams(Mapping[str, tf.data.Dataset]):
    """Data sets by name, each made when it is first asked for: making one may read all images.

    Args:
        made: By name a data set, or a function that makes one.
    """

    def __init__(self, made: Mapping[str, tf.data.Dataset | Callable[[], tf.data.Dataset]]) -> None:
        # Those of another recipe are shared as they are: asked for, all would be made.
        self._made = made._made if isinstance(made, Streams) else dict(made)

    def __getitem__(self, name: str) -> tf.data.Dataset:
        """The data set of a name."""
        found = self._made[name]
        if not isinstance(found, tf.data.Dataset) and callable(found):
            found = self._made[name] = found()
        return found

    def __contains__(self, name: object) -> bool:
        """Whether there is one, without making it, as a mapping's own question would."""
        return name in self._made

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._made)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._made)


@dataclass(frozen=True)
class Recipe:
    """One runnable experiment, complete.

    Args:
        name: For the report.
        teachers: The teachers, in the order of their sources.
        student: Makes the student; called once for each method.
        student_tap: The student's layer to imitate with, or several by tap name.
        streams: `"train"`: unlabelled batches of known number. Optionally `"calibration"`:
            unlabelled, unaugmented images for int8; by default the training images. Each is a data
            set or a function that makes one, called when it is needed.
        evaluation: Labelled test data by task, for all tasks, some or none; the joint accuracy
            needs all. Where a data set has the attribute `class_names`, as those of
            `keras_amalgam.data` do, they are the teacher's, in its order.
        photographs: The same test data by task as its teacher's authors would show it: at its own
            size, and in batches of one where sizes differ. The teacher's accuracy is measured
            there; by default on `evaluation`.
        methods: The first trains the student that is exported; the others are trained and
            evaluated for comparison. With candidates all of them are for comparison.
        candidates: Methods of which one is chosen to train the student that is exported: each is
            tried on a share of its epochs, see `training.choose`. They need
            `streams["kept_aside"]`, unlabelled and unaugmented images that are not trained on.
        goals: From a finished report to its goals, made by `keras_amalgam.report.goal`.
        notes: Sentences for the report.
        settings: For the report: what a reader must know to judge it.
        teacher_bytes: Size of the teachers' files together, if they are files.
        made_from: What the streams depend on, JSON-ready: files, order, augmentation. A run in
            which it has changed is not gone on with. By default the first batch is looked at.
    """

    name: str
    teachers: Sequence[Teacher]
    student: Callable[[], keras.Model]
    student_tap: Taps
    streams: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    methods: Sequence[Method]
    goals: Callable[[Report], Sequence[Goal]] = lambda report: ()
    notes: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    teacher_bytes: int | None = None
    photographs: Mapping[str, tf.data.Dataset] = field(default_factory=dict)
    made_from: Mapping[str, Any] = field(default_factory=dict)
    candidates: Sequence[Method] = ()

    @property
    def label_space(self) -> LabelSpace:
        """The classes of all teachers side by side."""
        return LabelSpace({teacher.name: teacher.class_names for teacher in self.teachers})

    def evaluated(self, predict: Predict) -> Evaluation:
        """What a model says of the test images.

        Args:
            predict: From images to logits by task; see `evaluation.predictor`.
        """
        return evaluate(predict, self.evaluation, self.label_space)

    @property
    def batch_size(self) -> int:
        """Images of one step."""
        stream = self.streams["train"]
        known = tf.nest.flatten(stream.element_spec)[0].shape[0]
        return known or len(tf.nest.flatten(first_batch(stream))[0])

    def __post_init__(self) -> None:
        """Refuse what cannot run, before anything is computed."""
        object.__setattr__(self, "streams", Streams(self.streams))
        methods = len(self.methods) + len(self.candidates)
        if not methods or not self.teachers or "train" not in self.streams:
            raise ValueError(
                f"The recipe {self.name!r} needs teachers, methods and streams['train']. "
                f"Received: {len(self.teachers)} teachers, {methods} methods, streams "
                f"{list(self.streams)}."
            )
        if self.candidates:
            check_candidates(self.candidates)
        if self.candidates and "kept_aside" not in self.streams:
            raise ValueError(
                f"The recipe {self.name!r} chooses between methods by unlabelled images that are "
                f"kept aside. Received: streams {list(self.streams)}. Expected: "
                "streams['kept_aside'], images that are not in streams['train']."
            )
        records.check(dict[str, Setting], records.plain(self.settings), "Recipe.settings")
        check_evaluated(self.name, [teacher.name for teacher in self.teachers], self.evaluation)
        if not set(self.photographs) <= set(self.evaluation):
            raise ValueError(
                f"The recipe {self.name!r} has photographs of tasks without test images. Received: "
                f"photographs of {list(self.photographs)}. Expected: of some of "
                f"{list(self.evaluation)}."
            )
        shown = (self.evaluation, self.photographs)
        tests = [(t, images.get(t.name)) for t in self.teachers for images in shown]
        for teacher, images in tests:
            names = getattr(images, "class_names", None)
            if names is not None and tuple(names) != teacher.class_names:
                raise ValueError(
                    f"The test images of teacher {teacher.name!r} number the classes otherwise "
                    f"than the teacher. Received: class names {list(names)}. Expected: "
                    f"{list(teacher.class_names)}. Give the data set the teacher's class names, "
                    "in the teacher's order."
                )


def check_evaluated(recipe: str, teachers: Sequence[str], tasks: Collection[str]) -> None:
    """Refuse test images for other tasks than the teachers'.

    Args:
        recipe: Its name.
        teachers: Their names.
        tasks: Those with test images.

    Raises:
        ValueError: Naming the tasks.
    """
    strangers = sorted(set(tasks) - set(teachers))
    if strangers:
        raise ValueError(
            f"The recipe {recipe!r} evaluates tasks that no teacher has. Received: {strangers}. "
            f"Teachers: {list(teachers)}."
        )


def load(name: str, settings: Mapping[str, Any] = MappingProxyType({})) -> Recipe:
    """Make the recipe of a module.

    Args:
        name: Path of a Python file, an importable module's name, or one of this folder's, such as
            `"digits_fashion"`.
        settings: Arguments of its `recipe()` by name, such as `{"seed": 1}`.

    Raises:
        ValueError: If there is no such module, it has no `recipe()`, that does not take a setting,
            or needs others.
    """
    module = _import(name)
    make = getattr(module, "recipe", None)
    if not callable(make):
        raise ValueError(
            f"{name} is no recipe: it has no function `recipe()`. Write one that returns a "
            "keras_amalgam.experiments.Recipe."
        )
    needed = [argument for argument in _needed_arguments(make) if argument not in settings]
    if needed:
        raise ValueError(
            f"recipe() of {name} needs the arguments {', '.join(needed)}. Received: "
            f"{dict(settings) or 'none'}. Give them as settings, or write a module of your own "
            "whose recipe() calls it with them."
        )
    try:
        inspect.signature(make).bind(**settings)
    except TypeError as error:
        raise ValueError(
            f"recipe() of {name} does not take these settings. Received: {dict(settings)}. "
            f"Expected: some of {list(inspect.signature(make).parameters)}."
        ) from error
    recipe = make(**settings)
    if not isinstance(recipe, Recipe):
        raise ValueError(f"recipe() of {name} must return a Recipe. Received: {recipe!r}.")
    return recipe


def _import(name: str) -> Any:
    path = Path(name)
    if path.suffix == ".py":
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise ValueError(f"There is no recipe at {path}.")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    for candidate in (f"keras_amalgam.experiments.{name}", name):
        try:
            return importlib.import_module(candidate)
        except ModuleNotFoundError as error:
            if error.name not in (candidate, candidate.split(".")[0]):
                raise
    raise ValueError(
        f"There is no recipe {name!r}. Give a Python file, an importable module, or one of "
        f"{_shipped()}."
    )


def _shipped() -> list[str]:
    """The modules of this folder that `load` makes a recipe of."""
    stems = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    made = {stem: getattr(_import(stem), "recipe", None) for stem in stems}
    return [stem for stem, make in made.items() if callable(make) and not _needed_arguments(make)]


def _needed_arguments(make: Callable[..., Any]) -> list[str]:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in inspect.signature(make).parameters.items()
        if parameter.default is parameter.empty and parameter.kind not in variable
    ]

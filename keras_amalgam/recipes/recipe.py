"""What a runnable experiment consists of."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_amalgam.methods import Method
from keras_amalgam.taps import Tap
from keras_amalgam.teacher import Teacher


@dataclass(frozen=True)
class Recipe:
    """One runnable experiment, complete.

    Args:
        name: For the report.
        teachers: In their order.
        student: Makes the student; called once for each method.
        student_tap: The student's layer to imitate with.
        streams: `"train"`: unlabelled batches of known number. Optionally `"calibration"`:
            unlabelled, unaugmented images for int8; by default the training images.
        evaluation: Labelled test data by task, for every task or for none.
        methods: The first trains the student that is exported; the others are trained and
            evaluated for comparison.
        goals: From a finished report to `evaluation.goal`s, to be shown in it.
        notes: Sentences for the report.
        settings: For the report: what a reader must know to judge it.
        teacher_bytes: Size of the teachers' files together, if they are files.
    """

    name: str
    teachers: Sequence[Teacher]
    student: Callable[[], keras.Model]
    student_tap: str | Tap
    streams: Mapping[str, tf.data.Dataset]
    evaluation: Mapping[str, Any]
    methods: Sequence[Method]
    goals: Callable[[Mapping[str, Any]], list[dict[str, Any]]] = lambda report: []
    notes: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    teacher_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot run, before anything is computed."""
        if not self.methods or not self.teachers or "train" not in self.streams:
            raise ValueError(
                f"The recipe {self.name!r} needs teachers, methods and streams['train']. "
                f"Received: {len(self.teachers)} teachers, {len(self.methods)} methods, streams "
                f"{list(self.streams)}."
            )
        names = [teacher.name for teacher in self.teachers]
        strangers = sorted(set(self.evaluation) - set(names))
        if strangers:
            raise ValueError(
                f"The recipe {self.name!r} evaluates tasks that no teacher has. Received: "
                f"{strangers}. Teachers: {names}."
            )
        missing = sorted(set(names) - set(self.evaluation))
        if self.evaluation and missing:
            raise ValueError(
                f"The recipe {self.name!r} has test images for some tasks only, and the joint "
                f"accuracy needs all. Missing: {missing}. Give test images for every teacher, or "
                "for none."
            )


def load(name: str) -> Recipe:
    """Make the recipe of a module.

    Args:
        name: Path of a Python file, an importable module's name, or one of this folder's, such as
            `"digits_fashion"`.

    Raises:
        ValueError: If there is no such module, or it has no `recipe()`.
    """
    module = _import(name)
    make = getattr(module, "recipe", None)
    if not callable(make):
        raise ValueError(
            f"{name} is no recipe: it has no function `recipe()`. Write one that returns a "
            "keras_amalgam.recipes.Recipe."
        )
    recipe = make()
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
    for candidate in (f"keras_amalgam.recipes.{name}", name):
        try:
            return importlib.import_module(candidate)
        except ModuleNotFoundError as error:
            if error.name not in (candidate, candidate.split(".")[0]):
                raise
    shipped = [p.stem for p in Path(__file__).parent.glob("*_*.py") if p.stem[0] != "_"]
    raise ValueError(
        f"There is no recipe {name!r}. Give a Python file, an importable module, or one of "
        f"{sorted(shipped)}."
    )

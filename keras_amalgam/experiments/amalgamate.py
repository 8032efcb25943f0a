"""The everyday way from teachers and a folder of photographs to a packaged student."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_amalgam import teachers as teachers_island
from keras_amalgam.experiments import arguments, job, own_teachers
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.models.student import check_names
from keras_amalgam.models.teacher import Teacher
from keras_amalgam.models.teacher_files import network_bytes
from keras_amalgam.report import Report


@dataclass(frozen=True)
class Run:
    """What a run left in its folder.

    Attributes:
        folder: With the artifacts, `report.html`, and the state of the training.
        report: What was measured; `None` if a step before it was the only one wanted.
    """

    folder: Path
    report: Report | None

    @property
    def student(self) -> keras.Model:
        """The student as it was packaged: a plain Keras model, from `student.keras`.

        Raises:
            FileNotFoundError: If it is not packaged yet.
        """
        path = self.folder / "student.keras"
        if not path.is_file():
            raise FileNotFoundError(
                f"The student is not packaged yet. Received: {self.folder}, which has no "
                f"{path.name}. Run it without `only`, or with `only='package'` once it is trained."
            )
        return keras.saving.load_model(path)


def amalgamate(
    teachers: Sequence[Teacher | str | Path],
    images: str | Path,
    out: str | Path,
    *,
    tests: Mapping[str, str | Path] | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    settings: job.Settings = job.Settings(),  # noqa: B008 (It is frozen.)
    say: Callable[[str], None] = print,
    started: float | None = None,
    **choices: Any,
) -> Run:
    """Amalgamate teachers into one packaged student, or go on with what is in the folder.

    This is `keras-amalgam amalgamate` in Python; `keras-amalgam amalgamate --help` says more.

    Args:
        teachers: Teachers, or folders that `Teacher.save` wrote, in the order of their sources.
        images: Folder of unlabelled photographs. With one sub-folder per teacher, named like it,
            the student is told which collection a photograph came from.
        out: Folder of the run. The same call again goes on there where it stopped.
        tests: By teacher a folder of labelled photographs, one sub-folder per class.
        size: Side, or height and width, of the student's own images, in pixels; by default 96, or
            what the student's file takes.
        channels: Of the images: 1 grey, 3 RGB.
        settings: How it is run: restart, only one step, callbacks, strategy.
        say: Where progress goes.
        started: `time.perf_counter()` at the start of the job, for the total time.
        **choices: What else the recipe takes, with the command's defaults: `student`, `weights`,
            `epochs`, `batch_size`, `learning_rate`, `temperature`, `common_features`, `ownership`,
            `flip`, `canvas`, `method`, `seed`, `steps`, `dtype_policy` and `workers`; see
            `experiments.own_teachers.recipe`.

    Returns:
        The run: its folder, report and student.

    Raises:
        TypeError: If an argument is of another type, or there is none of that name.
        ValueError: If something does not fit, or the run there was begun with something else. What
            is wrong with the arguments themselves is said before anything is read or written.
        FileExistsError: If `out` holds something else than a run.

    Example:
    ```python
    run = ka.amalgamate(["cars/", "birds/"], "photos/", "runs/mine", epochs=10)
    run.report.tasks["cars"].student_accuracy
    run.student.predict(photographs)
    ```
    """
    started = time.perf_counter() if started is None else started
    arguments.check_names(choices, amalgamate, own_teachers.recipe, job.Settings)
    arguments.check_teachers(teachers)
    _check_types(tests, settings)
    choices = {**choices, "size": size, "channels": channels}
    arguments.check_choices(choices)
    begun = None if settings.restart else Path(out)
    recipe = recipe_of(teachers, images, tests, say, arguments.plain(choices), begun)
    return Run(Path(out), job.run(recipe, out, settings, started, say))


def _check_types(tests: Any, settings: Any) -> None:
    if tests is not None and not isinstance(tests, Mapping):
        raise TypeError(
            f"`tests` must say which teacher each folder is for. Received: {tests!r:.80}. Give "
            'such as {"cars": "test/cars"}.'
        )
    if not isinstance(settings, job.Settings):
        raise TypeError(
            f"`settings` must be a job.Settings. Received: {settings!r:.80}. Give such as "
            "job.Settings(restart=True), with `from keras_amalgam.experiments import job`."
        )


def recipe_of(
    teachers: Sequence[Teacher | str | Path],
    images: str | Path,
    tests: Mapping[str, str | Path] | None,
    say: Callable[[str], None],
    choices: Mapping[str, Any],
    begun: Path | None = None,
) -> Recipe:
    """The recipe that `amalgamate` runs, with what must be said of the images said.

    Args:
        teachers: As in `amalgamate`, like all others.
        images: Folder.
        tests: Folders by teacher.
        say: Where it goes.
        choices: Further arguments of `own_teachers.recipe`.
        begun: Folder of a run that is gone on with, if one is there.
    """
    known = [one if isinstance(one, Teacher) else teachers_island.load(one) for one in teachers]
    check_names(known)
    files = [one for one in teachers if not isinstance(one, Teacher)]
    own_bytes = sum(map(network_bytes, files)) if len(files) == len(known) else None
    recipe = own_teachers.recipe(
        known,
        Path(images),
        {name: str(folder) for name, folder in (tests or {}).items()},
        say=say,
        **{
            "teacher_bytes": own_bytes,
            "read_once": own_teachers.begun_with(begun) if begun else None,
            **DEFAULTS,
            **choices,
        },
    )
    for note in recipe.notes:
        say(note)
    return recipe


DEFAULTS = {
    "student": "compact",
    "weights": None,
    "epochs": None,
    "batch_size": 64,
    "learning_rate": None,
    "temperature": None,
    "common_features": None,
    "ownership": None,
    "flip": True,
    "method": "amalgamation",
}
"""What the command and the function take where nothing is said."""

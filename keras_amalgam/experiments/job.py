"""Running a recipe as steps in a folder: choose, train, evaluate, package, compare, report.

Each step leaves its result whole and is skipped when nothing that it was made from has changed. A
step that fails loses nothing of those before it.
"""

import dataclasses
import errno
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras

from keras_amalgam import evaluation
from keras_amalgam.experiments import (
    canvas_cost,
    choosing,
    comparisons,
    first_look,
    made_from,
    package,
    pictures,
    reporting,
)
from keras_amalgam.experiments.package import Packaged
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.experiments.reporting import Tested
from keras_amalgam.experiments.run_folder import RunFolder, Say, check_begun
from keras_amalgam.experiments.settings import Settings
from keras_amalgam.experiments.trainings import Prepared, Trainings
from keras_amalgam.files.writing import whole_entries, write_json
from keras_amalgam.report import ChoiceResult, Report, format_table, formats, records, write_report
from keras_amalgam.training import Amalgamation, Method
from keras_amalgam.training.interruption import ended_by_sigterm

_FULL = (errno.ENOSPC, errno.EDQUOT)

_DEFAULT = Settings()


def run(
    recipe: Recipe,
    directory: str | Path,
    settings: Settings = _DEFAULT,
    started: float | None = None,
    say: Say = print,
) -> Report | None:
    """Run a recipe in a folder, or go on with what is there.

    Args:
        recipe: What to run.
        directory: For the training's states, student, artifacts, logs, `report.json` and
            `report.html`.
        settings: How it is run.
        started: `time.perf_counter()` at the start of the job, for the total time.
        say: Where progress goes.

    Returns:
        The report, which `report.json` holds; `None` if another step was the only one wanted.

    Raises:
        FileExistsError: If the folder is neither empty nor a run's.
        BlockingIOError: If another process runs in it.
        ValueError: If the training there was begun with something else, or `only` names a step
            before which another is not done.
        KeyboardInterrupt: If it was told to end. What was done is kept.
    """
    started = time.perf_counter() if started is None else started
    if not settings.restart:
        check_begun(Path(directory), settings.only)
    with RunFolder.opened(directory, settings.restart, say) as folder, ended_by_sigterm():
        try:
            report = _Job(recipe, folder, settings, started, say).run()
        except KeyboardInterrupt:
            say(f"Told to end. All that was done is kept in {directory}.")
            raise
        except OSError as error:
            if error.errno in _FULL:
                say(
                    f"The disk is full. All that was done is kept in {directory}: make room, and "
                    "the same command goes on."
                )
            raise
    if report is not None:
        say(f"Everything is in {directory}: open {Path(directory) / 'report.html'}.")
    return report


class _Job:
    """One process's work on a run."""

    def __init__(
        self, recipe: Recipe, folder: RunFolder, settings: Settings, started: float, say: Say
    ) -> None:
        self.recipe, self.folder, self.settings, self.say = recipe, folder, settings, say
        self.started = started
        self.earlier = 0.0  # Seconds that other processes spent on steps of this run.
        self.images = made_from.images(recipe)
        self.trainings = Trainings(recipe, folder, settings, self.images, say)

    def run(self) -> Report | None:
        """Do all that is not done, or the one step that is wanted."""
        only = self.settings.only
        choice = self._choose()
        main, *others = self.recipe.methods
        prepared = self.trainings.prepare(main)  # Refuses what does not fit the run that is there.
        first_look.check_tests(self.recipe, prepared.student)
        self._describe()
        notes = self._notes()
        amalgamation = self._train(prepared)
        if only == "train":
            return None
        student = amalgamation.amalgamator.student
        student_print = made_from.of_weights(student)
        tests = made_from.tests(self.recipe)
        about = {"student": student_print, "test_images": tests}
        tested = self._test(student, about)
        if only == "evaluate":
            return None
        packaged = self._package(student, about)
        if only == "package":
            return None
        report = reporting.report_of(self.recipe, amalgamation, tested, packaged, notes)
        own = report.student.ownership
        report = dataclasses.replace(report, choice=choice)
        report = comparisons.added(report, [self._compare(one, tests, own) for one in others])
        if only == "compare":
            return None
        return self._report(report, amalgamation, tested, about)

    def _describe(self) -> None:
        self.folder.describe({"recipe": self.recipe.name, **self.settings.described})

    def _choose(self) -> ChoiceResult | None:
        """Try the candidates, if there are any, and put the one that is chosen first."""
        recipe, path = self.recipe, self.folder.path / choosing.CHOICE
        if not recipe.candidates:
            return None
        pairs = zip(recipe.candidates, choosing.trials(recipe), strict=True)
        tried = {one.name: self.trainings.prepare(trial) for one, trial in pairs}
        for one in tried.values():
            first_look.check_tests(recipe, one.student)
        self._describe()

        def try_all() -> list[str]:
            self.say(f"Choosing between {formats.words(list(tried))}, by short runs.")
            choosing.write(path, self.trainings.choose(tried))
            return [path.name]

        about = {"candidates": [{**one.keeping.made_from} for one in tried.values()]}
        self._step("choose", about, try_all)
        self.recipe, result = choosing.with_chosen(recipe, path)
        self.trainings = dataclasses.replace(self.trainings, recipe=self.recipe)
        self.say(choosing.sentence(result, self.recipe.methods[0].name))
        return result

    def _notes(self) -> list[str]:
        """What some images tell of the teachers, said before anything is trained."""
        path = self.folder.path / "first_look.json"

        def look() -> list[str]:
            notes = [f"Warning: {doubt}" for doubt in first_look.doubts(self.recipe)]
            write_json(path, notes + _untested_note(self.recipe))
            return [path.name]

        about = {"teachers": made_from.teachers(self.recipe), "images": self.images}
        self._step("look at the images", about, look)
        notes = json.loads(path.read_text(encoding="utf-8"))
        for note in notes:
            self.say(note)
        return notes

    def _train(self, prepared: Prepared) -> Amalgamation:
        self.earlier += prepared.begun.seconds
        return self.trainings.train(prepared)

    def _test(self, student: keras.Model, about: Mapping[str, Any]) -> Tested:
        recipe, place = self.recipe, self.folder.path / "evaluation"
        if not recipe.evaluation:
            return Tested()

        def test() -> list[str]:
            self.say("Evaluating teachers and student on the test images.")
            said = {
                "student": recipe.evaluated(evaluation.predictor(student)),
                "teachers": recipe.evaluated(evaluation.teachers_predictor(recipe.teachers)),
            }
            own = canvas_cost.own_accuracies(recipe)
            with whole_entries(place.parent, place.name) as hidden:
                folder = hidden / place.name
                folder.mkdir()
                for name, one in said.items():
                    with open(folder / f"{name}.npz", "wb") as file:
                        one.save(file)
                write_json(folder / "own_accuracies.json", own)
            return [place.name]

        self._step("evaluate", {**about, "teachers": made_from.teachers(recipe)}, test)
        space, said = recipe.label_space, {}
        for name in ("student", "teachers"):
            with open(place / f"{name}.npz", "rb") as file:
                said[name] = evaluation.Evaluation.load(file, space)
        own = json.loads((place / "own_accuracies.json").read_text(encoding="utf-8"))
        return Tested(said["student"], said["teachers"], own)

    def _package(self, student: keras.Model, about: Mapping[str, Any]) -> Packaged:
        path = self.folder.path / "package.json"

        def pack() -> list[str]:
            self.say("Packaging the student and checking every artifact against it.")
            with tempfile.TemporaryDirectory(prefix=".package-", dir=path.parent) as folder:
                packaged = package.package(student, self.recipe, Path(folder))
                names = sorted(written.name for written in Path(folder).iterdir())
                # First, so that a kill leaves none that the new list does not name.
                self._remove_artifacts(but=names)
                with whole_entries(path.parent, *names, path.name) as place:
                    for name in names:
                        Path(folder, name).replace(place / name)
                    write_json(place / path.name, {**records.plain(packaged), "files": names})
            return [path.name, *names]

        self._step("package", {**about, "images": self.images}, pack)
        content = json.loads(path.read_text(encoding="utf-8"))
        content.pop("files")
        return records.build(Packaged, content)

    def _packaged_files(self) -> list[str]:
        """What an earlier packaging left in the folder."""
        try:
            told = (self.folder.path / "package.json").read_text(encoding="utf-8")
            return json.loads(told)["files"]
        except (FileNotFoundError, ValueError):  # None was done, or it is done again.
            return []

    def _remove_artifacts(self, but: Sequence[str]) -> None:
        """Remove an earlier packaging's files that the new one does not replace."""
        for name in set(self._packaged_files()) - set(but):
            stale = self.folder.path / name
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)

    def _compare(
        self, method: Method, tests: Mapping[str, Any], own: str
    ) -> comparisons.Compared | None:
        """What a method's student is worth, for comparison; `None` without test images."""
        with warnings.catch_warnings():
            # Heads that no term trains are what some comparisons are about.
            warnings.filterwarnings("ignore", message="Gradients do not exist")
            amalgamation = self._train(self.trainings.prepare(method))
        if not self.recipe.evaluation:
            return None
        name = f"training/{method.name}/compared.json"
        path = self.folder.path / name

        def measure() -> list[str]:
            write_json(path, records.plain(comparisons.measured(self.recipe, amalgamation, own)))
            return [name]

        student = amalgamation.amalgamator.student
        about = {"student": made_from.of_weights(student), "test_images": tests}
        self._step(f"compare {method.name}", about, measure)
        return comparisons.read(path, amalgamation, own)

    def _report(
        self,
        report: Report,
        amalgamation: Amalgamation,
        tested: Tested,
        about: Mapping[str, Any],
    ) -> Report:
        path = self.folder.path / "report.json"

        def draw() -> list[str]:
            self.say("Drawing the report.")
            shown, finished = None, report
            if tested.student and tested.teachers:
                shown, space = pictures.draw(
                    self.recipe, amalgamation.amalgamator, tested.student, tested.teachers
                )
                finished = dataclasses.replace(finished, common_space=space)
                if space is None and pictures.common_spaces(amalgamation.amalgamator):
                    notes = (*finished.notes, "Too few test images for the common space's picture.")
                    finished = dataclasses.replace(finished, notes=notes)
            total = time.perf_counter() - self.started + self.earlier
            finished = _ended(finished, self.recipe, total)
            write_report(self.folder.path, finished, shown, self.settings.full_run)
            return [path.name, "report.html"]

        measured = records.plain(dataclasses.replace(report, history=None))
        self._step("report", {**about, "measured": measured}, draw)
        finished = Report.from_dict(json.loads(path.read_text(encoding="utf-8")))
        self.say(format_table(finished))
        return finished

    def _step(self, name: str, made: Mapping[str, Any], do: Callable[[], Sequence[str]]) -> None:
        """Do a step of the folder if it is wanted, and count what it took in earlier processes."""
        only, kind = self.settings.only, name.split()[0]
        record = self.folder.steps.get(name)
        # Looking at the images and choosing a method belong to the training.
        wanted = (only, "look", "choose") if only == "train" else (only, "look")
        if only is not None and kind not in wanted:
            if record is None:
                raise ValueError(
                    f"Only the step {only!r} was wanted, and the step {name!r} before it is not "
                    f"done. Received: {self.folder.path}. Run without `only` first."
                )
            if lost := self.folder.lost(name):
                raise ValueError(
                    f"Only the step {only!r} was wanted, and what the step {name!r} before it left "
                    f"is gone. Received: {'; '.join(lost)}. Run without `only` first."
                )
            self.earlier += record["seconds"]
            return
        done = self.folder.step(name, made, do, anew=kind == only)
        if not done and record:
            self.earlier += record["seconds"]


def _ended(report: Report, recipe: Recipe, total: float) -> Report:
    """The report with the time the job took, and its goals, which may concern that."""
    seconds = dataclasses.replace(report.seconds, total=total)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    report = dataclasses.replace(report, created=now, seconds=seconds)
    return dataclasses.replace(report, goals=tuple(recipe.goals(report)))


def _untested_note(recipe: Recipe) -> list[str]:
    """What the report must say where some teachers have test images and some do not."""
    untested = [t.name for t in recipe.teachers if t.name not in recipe.evaluation]
    if not untested or not recipe.evaluation:
        return []
    return [
        f"No test images of {formats.words(untested)}: how right the student is there is not "
        "measured, and no joint accuracy, which needs the test images of every teacher."
    ]

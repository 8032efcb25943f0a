"""Running a recipe: train, evaluate, package, report."""

import dataclasses
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keras_amalgam import evaluation
from keras_amalgam.evaluation import AblationRun
from keras_amalgam.evaluation.gradients import gradient_norms
from keras_amalgam.experiments import canvas_cost, first_look, package, pictures, reporting
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.experiments.reporting import Tested
from keras_amalgam.files.writing import whole_directory
from keras_amalgam.report import (
    ComparedOwnership,
    Report,
    format_table,
    formats,
    write_report,
)
from keras_amalgam.tasks.label_space import LabelSpace
from keras_amalgam.training import Amalgamation, Method, train

Say = Callable[[str], None]


def run(
    recipe: Recipe,
    directory: str | Path,
    overwrite: bool = False,
    started: float | None = None,
    full_run: str | None = None,
    say: Say = print,
) -> Report:
    """Run a recipe and leave everything a person can use in a folder.

    The folder appears when all of it is there. Until then it lies in `.<name>-…` beside it.

    Args:
        recipe: What to run.
        directory: For student, artifacts, logs, `report.json` and `report.html`.
        overwrite: Whether an earlier result is replaced. Any other folder never is.
        started: `time.perf_counter()` at the start of the job, for the total time.
        full_run: The command that runs what this job did not, if there is one.
        say: Where progress goes.

    Returns:
        The report, which `report.json` holds.

    Raises:
        FileExistsError: If the folder exists and `overwrite` is false, or it is neither empty nor
            an earlier result.
    """
    started = time.perf_counter() if started is None else started
    with whole_directory(directory, overwrite, mark="report.json") as folder:
        report = _run(recipe, folder, started, full_run, say)
    say(f"Everything is in {directory}: open {Path(directory) / 'report.html'}.")
    return report


def _run(recipe: Recipe, folder: Path, started: float, full_run: str | None, say: Say) -> Report:
    main, *others = recipe.methods
    notes = [f"Warning: {doubt}" for doubt in first_look.doubts(recipe)]
    notes += _untested_note(recipe)
    for note in notes:
        say(note)
    amalgamation = _train(recipe, main, folder, say)
    tested = _test(recipe, amalgamation, say)
    say("Packaging the student and checking every artifact against it.")
    packaged = package.package(amalgamation.amalgamator.student, recipe, folder)

    report = reporting.report_of(recipe, amalgamation, tested, packaged, notes)
    if others:
        report = _compare(recipe, others, folder, report, say)
    shown = None
    if tested.student and tested.teachers:
        say("Drawing the report.")
        shown, space = pictures.draw(
            recipe, amalgamation.amalgamator, tested.student, tested.teachers
        )
        report = dataclasses.replace(report, common_space=space)
    report = _ended(report, recipe, time.perf_counter() - started)
    write_report(folder, report, shown, full_run)
    say(format_table(report))
    return report


def _ended(report: Report, recipe: Recipe, total: float) -> Report:
    """The report with the time the job took, and its goals, which may concern that."""
    seconds = dataclasses.replace(report.seconds, total=total)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    report = dataclasses.replace(report, created=now, seconds=seconds)
    return dataclasses.replace(report, goals=tuple(recipe.goals(report)))


def _train(recipe: Recipe, method: Method, folder: Path, say: Say) -> Amalgamation:
    say(f"Training the student without labels: {method.name}.")
    return train(
        method,
        recipe.teachers,
        recipe.student,
        recipe.student_tap,
        recipe.streams["train"],
        logs=folder / "logs" / method.name,
        # One line an epoch where nobody watches a bar move.
        verbose=1 if sys.stdout.isatty() else 2,
    )


def _test(recipe: Recipe, amalgamation: Amalgamation, say: Say) -> Tested:
    if not recipe.evaluation:
        return Tested()
    say("Evaluating teachers and student on the test images.")
    return Tested(
        student=_evaluate(evaluation.predictor(amalgamation.amalgamator.student), recipe),
        teachers=_evaluate(evaluation.teachers_predictor(recipe.teachers), recipe),
        own=canvas_cost.own_accuracies(recipe),
    )


def _evaluate(predict: Any, recipe: Recipe) -> evaluation.Evaluation:
    space = LabelSpace({teacher.name: teacher.class_names for teacher in recipe.teachers})
    return evaluation.evaluate(predict, recipe.evaluation, space)


def _compare(
    recipe: Recipe, methods: Sequence[Method], folder: Path, report: Report, say: Say
) -> Report:
    """Train the other methods; the report with what each term is worth, and other ownerships."""
    ablation: list[AblationRun] = []
    compared: list[ComparedOwnership] = []
    for method in methods:
        with warnings.catch_warnings():
            # Heads that no term trains are what some comparisons are about.
            warnings.filterwarnings("ignore", message="Gradients do not exist")
            amalgamation = _train(recipe, method, folder, say)
        if not recipe.evaluation:
            continue
        amalgamator = amalgamation.amalgamator
        tested = _evaluate(evaluation.predictor(amalgamator.student), recipe)
        joint, ownership = tested.joint_accuracy, reporting.ownership_of(amalgamation)
        if method.removes is None and ownership != report.student.ownership:
            compared.append(
                ComparedOwnership(method=method.name, ownership=ownership, accuracy=joint)
            )
            continue
        ablation.append(
            AblationRun(
                method=method.name,
                removed=method.removes,
                task_accuracy=reporting.task_accuracies(recipe, tested),
                joint_accuracy=joint,
                gradient_norms=gradient_norms(amalgamator, next(iter(recipe.streams["train"]))),
            )
        )
    return dataclasses.replace(
        report,
        joint_accuracy=dataclasses.replace(report.joint_accuracy, compared=tuple(compared)),
        ablation=tuple(ablation) or None,
    )


def _untested_note(recipe: Recipe) -> list[str]:
    """What the report must say where some teachers have test images and some do not."""
    untested = [t.name for t in recipe.teachers if t.name not in recipe.evaluation]
    if not untested or not recipe.evaluation:
        return []
    return [
        f"No test images of {formats.words(untested)}: how right the student is there is not "
        "measured, and no joint accuracy, which needs the test images of every teacher."
    ]

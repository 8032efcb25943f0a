"""Running a recipe: train, evaluate, package, report."""

import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_amalgam import evaluation
from keras_amalgam.evaluation.gradients import gradient_norms
from keras_amalgam.experiments import canvas_cost, first_look, package, pictures
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.files.writing import whole_directory
from keras_amalgam.report import format_table, formats, write_report
from keras_amalgam.tasks.label_space import LabelSpace
from keras_amalgam.terms import SoftTargets
from keras_amalgam.training import Amalgamation, train
from keras_amalgam.versions import versions

Say = Callable[[str], None]


def run(
    recipe: Recipe,
    directory: str | Path,
    overwrite: bool = False,
    started: float | None = None,
    full_run: str | None = None,
    say: Say = print,
) -> dict[str, Any]:
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
        The report, as in `report.json`.

    Raises:
        FileExistsError: If the folder exists and `overwrite` is false, or it is neither empty nor
            an earlier result.
    """
    started = time.perf_counter() if started is None else started
    with whole_directory(directory, overwrite, mark="report.json") as folder:
        report = _run(recipe, folder, started, full_run, say)
    say(f"Everything is in {directory}: open {Path(directory) / 'report.html'}.")
    return report


def _run(
    recipe: Recipe, folder: Path, started: float, full_run: str | None, say: Say
) -> dict[str, Any]:
    space = LabelSpace({teacher.name: teacher.class_names for teacher in recipe.teachers})
    main, *others = recipe.methods
    notes = [f"Warning: {doubt}" for doubt in first_look.doubts(recipe)]
    notes += _untested_note(recipe)
    for note in notes:
        say(note)
    amalgamation = _train(recipe, main, folder, say)
    student = amalgamation.amalgamator.student

    said = teachers_said = None
    own: dict[str, float] = {}
    if recipe.evaluation:
        say("Evaluating teachers and student on the test images.")
        teachers_said = _evaluate(evaluation.teachers_predictor(recipe.teachers), recipe, space)
        said = _evaluate(evaluation.predictor(student), recipe, space)
        own = canvas_cost.own_accuracies(recipe)
    say("Packaging the student and checking every artifact against it.")
    packaged = package.package(student, recipe, folder)

    report = _report(recipe, amalgamation, said, teachers_said, packaged, notes)
    canvas_cost.tell(report, own)
    if others:
        report["ablation"] = _compare(recipe, others, folder, space, report, say)
    shown = None
    if said is not None and teachers_said is not None:
        say("Drawing the report.")
        report["confusion_matrix"] = said.confusion_section()
        shown, report["common_space"] = pictures.draw(
            recipe, amalgamation.amalgamator, said, teachers_said
        )
    report["seconds"]["total"] = time.perf_counter() - started
    report["goals"] = recipe.goals(report)
    write_report(folder, report, shown, full_run)
    say(format_table(report))
    return report


def _train(recipe: Recipe, method: Any, folder: Path, say: Say) -> Amalgamation:
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


def _evaluate(predict: Any, recipe: Recipe, space: LabelSpace) -> evaluation.Evaluation | None:
    if not recipe.evaluation:
        return None
    return evaluation.evaluate(predict, recipe.evaluation, space)


def _report(
    recipe: Recipe,
    amalgamation: Amalgamation,
    said: evaluation.Evaluation | None,
    teachers_said: evaluation.Evaluation | None,
    packaged: Mapping[str, Any],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Everything measured of the first method, with null for what was not run."""
    ownership = ownership_of(amalgamation)
    joint = said.joint_accuracy if said else None
    agreement = evaluation.agreement(said, teachers_said) if said and teachers_said else {}
    return {
        "recipe": recipe.name,
        "ownership": ownership,
        "tasks": {
            teacher.name: {
                "teacher_accuracy": _of(teachers_said, teacher.name),
                "student_accuracy": _of(said, teacher.name),
                "tflite_int8_accuracy": packaged["int8_accuracy"].get(teacher.name),
                "num_test_images": said.num_images.get(teacher.name, 0) if said else 0,
                "agreement": agreement.get(teacher.name),
            }
            for teacher in recipe.teachers
        },
        "joint_accuracy": {
            "source_aware": joint if ownership == "source" else None,
            "source_blind": None if ownership == "source" else joint,
            "teachers_source_blind": teachers_said.joint_accuracy if teachers_said else None,
        },
        "parameters": {
            "teachers": sum(teacher.count_params() for teacher in recipe.teachers),
            "student": amalgamation.amalgamator.student.count_params(),
        },
        "bytes": packaged["bytes"],
        "latency_ms": packaged["latency_ms"],
        "seconds": {"amalgamate": amalgamation.seconds, "total": None},
        "parity": packaged["parity"],
        "versions": versions(),
        "history": amalgamation.history,
        "settings": dict(recipe.settings),
        "notes": [*recipe.notes, *notes, *packaged["notes"]],
        "goals": [],
    }


def _compare(
    recipe: Recipe, methods: Any, folder: Path, space: LabelSpace, report: dict, say: Say
) -> list[dict[str, Any]]:
    """Train the other methods; fill in the source-blind joint accuracy and return the ablation."""
    entries = []
    for method in methods:
        with warnings.catch_warnings():
            # Heads that no term trains are what some comparisons are about.
            warnings.filterwarnings("ignore", message="Gradients do not exist")
            amalgamation = _train(recipe, method, folder, say)
        said = _evaluate(evaluation.predictor(amalgamation.amalgamator.student), recipe, space)
        if said is None:
            continue
        ownership = ownership_of(amalgamation)
        if ownership != "source" and method.removes is None:
            report["joint_accuracy"]["source_blind"] = said.joint_accuracy
            continue
        batch = next(iter(recipe.streams["train"]))
        entries.append(
            {
                "removed": method.removes,
                "tasks": {teacher.name: _of(said, teacher.name) for teacher in recipe.teachers},
                "joint": said.joint_accuracy,
                "gradient_norms": gradient_norms(amalgamation.amalgamator, batch),
            }
        )
    return entries


def ownership_of(amalgamation: Amalgamation) -> str:
    """Which teacher the student believed on an image; `"none"` without soft targets."""
    for term in amalgamation.amalgamator.terms:
        if isinstance(term, SoftTargets):
            return term.ownership
    return "none"


def _of(said: evaluation.Evaluation | None, task: str) -> float | None:
    return said.task_accuracy.get(task) if said else None


def _untested_note(recipe: Recipe) -> list[str]:
    """What the report must say where some teachers have test images and some do not."""
    untested = [t.name for t in recipe.teachers if t.name not in recipe.evaluation]
    if not untested or not recipe.evaluation:
        return []
    return [
        f"No test images of {formats.words(untested)}: how right the student is there is not "
        "measured, and no joint accuracy, which needs the test images of every teacher."
    ]

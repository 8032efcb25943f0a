"""The report of a run, from what its steps measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_amalgam import evaluation
from keras_amalgam.evaluation import Evaluation
from keras_amalgam.experiments import canvas_cost
from keras_amalgam.experiments.package import Packaged
from keras_amalgam.experiments.recipe import Recipe
from keras_amalgam.report import (
    JobSeconds,
    JointAccuracy,
    Report,
    StudentResult,
    TaskResult,
    TeachersResult,
)
from keras_amalgam.terms import SoftTargets
from keras_amalgam.training import Amalgamation
from keras_amalgam.versions import versions


@dataclass(frozen=True)
class Tested:
    """What the test images told; empty without any.

    Attributes:
        student: The student on the canvas.
        teachers: The teachers side by side, on the canvas.
        own: By teacher its accuracy in its own pipeline, where the recipe has photographs.
    """

    student: Evaluation | None = None
    teachers: Evaluation | None = None
    own: Mapping[str, float] = field(default_factory=dict)


def report_of(
    recipe: Recipe,
    amalgamation: Amalgamation,
    tested: Tested,
    packaged: Packaged,
    notes: Sequence[str],
) -> Report:
    """Everything measured of the first method, with `None` for what was not run.

    Args:
        recipe: What was run.
        amalgamation: The student, as its first method trained it.
        tested: What the test images told.
        packaged: The artifacts.
        notes: Sentences for the report besides the recipe's, the artifacts' and the canvas'.
    """
    student, teachers = tested.student, tested.teachers
    tasks = _tasks(recipe, tested)
    said = [*recipe.notes, *notes, *packaged.notes, *canvas_cost.notes(tasks)]
    return Report(
        recipe=recipe.name,
        tasks=tasks,
        joint_accuracy=JointAccuracy(
            student=student.joint_accuracy if student else None,
            teachers=teachers.joint_accuracy if teachers else None,
        ),
        teachers=TeachersResult(
            parameters=sum(teacher.count_params() for teacher in recipe.teachers),
            bytes=recipe.teacher_bytes,
            latency_ms=packaged.teachers_latency_ms,
        ),
        student=StudentResult(
            method=amalgamation.method.name,
            ownership=ownership_of(amalgamation),
            parameters=amalgamation.amalgamator.student.count_params(),
        ),
        artifacts=packaged.artifacts,
        seconds=JobSeconds(amalgamate=amalgamation.seconds, total=None),
        history={key: tuple(values) for key, values in amalgamation.history.items()},
        confusion_matrix=student.named_confusion_matrix() if student else None,
        settings=_settings(recipe),
        notes=tuple(said),
        versions=versions(),
    )


def ownership_of(amalgamation: Amalgamation) -> str:
    """Which teacher was believed on an image; `"none"` without soft targets.

    The first stage that has any tells: later ones may imitate a student that has settled it.
    """
    terms = (term for stage in amalgamation.method.stages for term in stage.terms())
    soft = (term.ownership for term in terms if isinstance(term, SoftTargets))
    return next(soft, "none")


def task_accuracies(recipe: Recipe, one: Evaluation) -> dict[str, float | None]:
    """Accuracy by task, `None` for a task without test images."""
    return {teacher.name: one.task_accuracy.get(teacher.name) for teacher in recipe.teachers}


def _tasks(recipe: Recipe, tested: Tested) -> dict[str, TaskResult]:
    nothing: dict[str, float | None] = dict.fromkeys(t.name for t in recipe.teachers)
    student = task_accuracies(recipe, tested.student) if tested.student else nothing
    teachers = task_accuracies(recipe, tested.teachers) if tested.teachers else nothing
    images = tested.student.num_images if tested.student else {}
    alike = (
        evaluation.agreement(tested.student, tested.teachers)
        if tested.student and tested.teachers
        else {}
    )
    return {
        name: TaskResult(
            num_test_images=images.get(name, 0),
            teacher_own_pipeline_accuracy=tested.own.get(name),
            teacher_canvas_accuracy=teachers[name],
            student_accuracy=student[name],
            agreement=alike.get(name),
        )
        for name in nothing
    }


def _settings(recipe: Recipe) -> dict[str, Any]:
    """A recipe may write lists; a report has tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in recipe.settings.items()
    }

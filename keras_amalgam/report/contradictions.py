"""Refusal of reports whose values are right one by one and contradict each other."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from keras_amalgam.evaluation.ablation import AblationRun
from keras_amalgam.evaluation.confusion import ConfusionMatrix
from keras_amalgam.report.goals import Goal, goal
from keras_amalgam.report.records import error

if TYPE_CHECKING:
    from keras_amalgam.report.results import ChoiceResult, Report


def refuse(report: "Report") -> None:
    """Refuse a report with values that contradict each other.

    Args:
        report: A report whose values are right one by one.

    Raises:
        ValueError: Naming the key, what it holds and what it must hold.
    """
    _check_images(report)
    _check_artifacts(report)
    _check_compared(report)
    for place, one in enumerate(report.goals):
        _check_goal(one, f"report.goals[{place}]")
    if report.confusion_matrix is not None:
        _check_confusion(report.confusion_matrix, report.num_images)
    if report.ablation is not None:
        _check_ablation(report.ablation, report.num_images)
    if report.choice is not None:
        _check_choice(report.choice, report)
    if report.common_space is not None:
        retrieval = report.common_space.class_retrieval
        if not set(retrieval) <= set(report.tasks):
            path = "report.common_space.class_retrieval"
            raise error(path, list(retrieval), f"some of {list(report.tasks)}")


def _check_images(report: "Report") -> None:
    """An accuracy needs test images; a joint one needs those of every task."""
    joint = report.joint_accuracy
    joint_measured = [joint.student, joint.teachers, *(one.accuracy for one in joint.compared)]
    for name, task in report.tasks.items():
        measured = [
            task.teacher_own_pipeline_accuracy,
            task.teacher_canvas_accuracy,
            task.student_accuracy,
            task.agreement,
            *((one.accuracy or {}).get(name) for one in report.artifacts.values()),
            *(run.task_accuracy.get(name) for run in report.ablation or ()),
            *(run.joint_accuracy for run in report.ablation or ()),
            *joint_measured,
        ]
        if not task.num_test_images and any(value is not None for value in measured):
            raise error(f"report.tasks.{name}.num_test_images", 0, "at least one image")


def _check_artifacts(report: "Report") -> None:
    for name, one in report.artifacts.items():
        if one.accuracy is not None and set(one.accuracy) != set(report.tasks):
            path = f"report.artifacts.{name}.accuracy"
            raise error(path, list(one.accuracy), list(report.tasks))


def _check_compared(report: "Report") -> None:
    for place, one in enumerate(report.joint_accuracy.compared):
        if one.ownership == report.student.ownership:
            path = f"report.joint_accuracy.compared[{place}].ownership"
            raise error(path, one.ownership, "another than report.student.ownership")


def _check_choice(choice: "ChoiceResult", report: "Report") -> None:
    """All methods are compared in the same tasks, and one of them trained the student."""
    for place, one in enumerate(choice.tried):
        if set(one.agreement) != set(report.tasks):
            path = f"report.choice.tried[{place}].agreement"
            raise error(path, list(one.agreement), list(report.tasks))
    tried = [one.method for one in choice.tried]
    if report.student.method not in tried:
        raise error("report.student.method", report.student.method, f"one of {tried}, as tried")


def _check_goal(one: Goal, path: str) -> None:
    expected = goal(one.name, one.value, one.target, one.unit, one.at_least).met
    if one.met is not expected:
        raise error(f"{path}.met", one.met, f"{expected}, as value and target say")


def _check_confusion(matrix: ConfusionMatrix, tasks: Mapping[str, int]) -> None:
    path, size = "report.confusion_matrix", len(matrix.labels)
    shape = [len(row) for row in matrix.counts]
    if not size or shape != [size] * size:
        raise error(f"{path}.counts", f"rows of {shape}", f"{size} rows and columns")
    if len(matrix.tasks) != size or not set(matrix.tasks) <= set(tasks):
        raise error(f"{path}.tasks", matrix.tasks, f"for each label one of {list(tasks)}")


def _check_ablation(runs: Sequence[AblationRun], tasks: Mapping[str, int]) -> None:
    removed = [run.removed for run in runs]
    if removed.count(None) != 1 or len(set(removed)) != len(removed):
        raise error(
            "report.ablation",
            f"removed={removed}",
            "every term once, and once null: the run with all terms",
        )
    for place, run in enumerate(runs):
        if set(run.task_accuracy) != set(tasks):
            path = f"report.ablation[{place}].task_accuracy"
            raise error(path, list(run.task_accuracy), list(tasks))

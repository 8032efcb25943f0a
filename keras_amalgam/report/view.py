"""The report as the page and the terminal show it: rows of text, each made from one number."""

from collections.abc import Callable, Mapping
from typing import Any

from keras_amalgam.evaluation.predictions import difference, standard_error
from keras_amalgam.report import formats
from keras_amalgam.report.results import ArtifactResult, Report

NOT_RUN = "not run"

Form = Callable[[Any], str]

SOURCE_AWARE = "Student; in training each image's collection was known"
SOURCE_BLIND = "Student; in training nothing was known of an image"
SIDE_BY_SIDE = "Teachers side by side, their logits concatenated"
TOGETHER = "teachers together"
FORMATS = {"keras": "Keras", "saved_model": "SavedModel", "tflite": "TFLite", "onnx": "ONNX"}


def shown(value: Any, form: Form) -> str:
    """A value in its form, or that it was not run."""
    return NOT_RUN if value is None else form(value)


def accuracy(value: float | None, num_images: int) -> str:
    """An accuracy in percent with its standard error."""
    return shown(value, lambda v: formats.percent(v, standard_error(v, num_images)))


def num_images(report: Report) -> int:
    """Test images of all tasks together."""
    return sum(report.num_images.values())


def of_student(artifact: ArtifactResult) -> str:
    """What an artifact is, such as `student, TFLite int8`."""
    return f"student, {FORMATS.get(artifact.format, artifact.format)} {artifact.precision}"


def tested_artifacts(report: Report) -> dict[str, str]:
    """Files run on the test images, each with its precision; with its name where two have that."""
    tested = {name: one for name, one in report.artifacts.items() if one.accuracy is not None}
    precisions = [one.precision for one in tested.values()]
    return {
        name: one.precision if precisions.count(one.precision) == 1 else name
        for name, one in tested.items()
    }


def task_rows(report: Report) -> list[dict[str, Any]]:
    """The headline: teacher, student, difference and artifacts of each task, percent and points."""
    rows = []
    for name, task in report.tasks.items():
        images, student = task.num_test_images, task.student_accuracy
        rows.append(
            {
                "task": name,
                "images": formats.count(images),
                "teacher": accuracy(task.teacher_accuracy, images),
                "canvas": accuracy(task.teacher_canvas_accuracy, images),
                "student": accuracy(student, images),
                "difference": _points_between(student, task.teacher_accuracy),
                "artifacts": [
                    {
                        "title": title,
                        "accuracy": accuracy(value, images),
                        "difference": _points_between(value, student),
                    }
                    for title, value in _artifact_accuracies(report, name).items()
                ],
                "agreement": shown(task.agreement, formats.percent),
            }
        )
    return rows


def measured_accuracies(report: Report) -> list[tuple[str, dict[str, tuple[float, float]]]]:
    """Tasks with what was measured of them: `{model: (accuracy, standard error)}`, fractions."""
    rows = []
    for name, task in report.tasks.items():
        values = {
            "teacher": task.teacher_accuracy,
            "student": task.student_accuracy,
            **_artifact_accuracies(report, name),
        }
        measured = {
            model: (value, standard_error(value, task.num_test_images))
            for model, value in values.items()
            if value is not None
        }
        if measured:
            rows.append((name, measured))
    return rows


def canvas_differs(report: Report) -> bool:
    """Whether a teacher is more or less accurate on the canvas than in its own pipeline."""
    return any(
        task.teacher_canvas_accuracy != task.teacher_accuracy for task in report.tasks.values()
    )


def tiles(report: Report) -> list[dict[str, str]]:
    """The few numbers that stand first on the page."""
    first = [
        {
            "about": name,
            "value": shown(task.student_accuracy, _percent),
            "text": f"student’s accuracy; teacher {shown(task.teacher_accuracy, _percent)}",
        }
        for name, task in report.tasks.items()
    ]
    size = {
        "about": "size",
        "value": formats.count(report.student.parameters),
        "text": f"parameters; teachers {formats.count(report.teachers.parameters)}",
    }
    return [*first, size, _latency_tile(report)]


def _latency_tile(report: Report) -> dict[str, str]:
    timed = _timed_beside_teachers(report)
    value, what = next(((one.latency_beside_teachers_ms, one) for one in timed), (None, None))
    precision = "" if what is None else f", {what.precision}"
    return {
        "about": "latency",
        "value": shown(value, formats.milliseconds),
        "text": f"an image{precision}, one thread; teachers "
        f"{shown(report.teachers.latency_ms, formats.milliseconds)}",
    }


def joint_rows(report: Report) -> list[dict[str, str]]:
    """Joint accuracies, percent, each with what trained the model."""
    joint, student, images = report.joint_accuracy, report.student, num_images(report)
    trained = [
        (student.method, student.ownership, joint.student),
        *((one.method, one.ownership, one.accuracy) for one in joint.compared),
    ]
    aware = [one for one in trained if one[1] == "source"]
    blind = [one for one in trained if one[1] != "source"]
    rows = []
    for name, members in ((SOURCE_AWARE, aware), (SOURCE_BLIND, blind)):
        rules = [ownership for _, ownership, _ in members]
        for method, ownership, value in members:
            which = ownership if rules.count(ownership) == 1 else method
            more = f" ({which.replace('_', ' ')})" if len(members) > 1 else ""
            training = f"{method}, ownership “{ownership}”"
            rows.append((name + more, training, value))
        if not members:
            rows.append((name, "", None))
    rows.append((SIDE_BY_SIDE, "", joint.teachers))
    return [
        {"name": name, "training": training, "accuracy": accuracy(value, images)}
        for name, training, value in rows
    ]


def goal_rows(report: Report) -> list[dict[str, str]]:
    """Goals with what was measured and by how much it was missed."""
    rows: list[dict[str, str]] = []
    for one in report.goals:
        form = _GOAL_FORMS[one.unit]
        state, note = NOT_RUN, ""
        if one.met is not None:
            state = "met" if one.met else "missed"
            note = "" if one.met else f"by {_GAP_FORMS.get(one.unit, form)(one.gap)}"
        bound = "at least" if one.at_least else "at most"
        rows.append(
            {
                "name": one.name,
                "target": f"{bound} {form(one.target)}",
                "value": shown(one.value, form),
                "state": state,
                "note": note,
            }
        )
    return rows


def cost_tables(report: Report) -> list[dict[str, Any]]:
    """Parameters, file sizes, latencies and times; what teachers cost is the measure."""
    teachers, files = report.teachers, report.artifacts.values()
    sizes = {of_student(one): one.bytes for one in files if one.format == "tflite"}
    latencies = {
        of_student(one): one.latency_beside_teachers_ms for one in _timed_beside_teachers(report)
    }
    times = {"amalgamation": report.seconds.amalgamate, "whole job": report.seconds.total}
    parameters = {TOGETHER: teachers.parameters, "student": report.student.parameters}
    return [
        _cost("Parameters", "weights of the Keras models", formats.count, parameters),
        _cost("Size", "of the files", formats.file_size, {TOGETHER: teachers.bytes, **sizes}),
        _cost(
            "Latency",
            "one image, one thread, median",
            formats.milliseconds,
            {TOGETHER: teachers.latency_ms, **latencies},
        ),
        _cost("Time", "wall clock", formats.duration, times),
    ]


def _cost(title: str, about: str, form: Form, values: Mapping[str, float | None]) -> dict[str, Any]:
    base = values.get(TOGETHER)
    rows = [
        {
            "name": name,
            "value": shown(value, form),
            "ratio": "" if name == TOGETHER else _times_less(base, value),
        }
        for name, value in values.items()
    ]
    return {"title": title, "about": about, "rows": rows}


def artifact_rows(report: Report) -> list[dict[str, str]]:
    """How far each artifact's outputs are from the student's, and what it costs."""
    rows = []
    for name, one in report.artifacts.items():
        state = ""
        if one.max_abs_error is not None and one.tolerance is not None:
            state = "within" if one.max_abs_error <= one.tolerance else "exceeded"
        rows.append(
            {
                "artifact": name,
                "precision": one.precision,
                "error": shown(one.max_abs_error, formats.scalar),
                "tolerance": "" if one.tolerance is None else formats.scalar(one.tolerance),
                "images": shown(one.num_images, formats.count),
                "agreement": shown(one.min_agreement, formats.percent),
                "size": shown(one.bytes, formats.file_size),
                "latency": shown(one.latency_ms, formats.milliseconds),
                "state": state,
            }
        )
    return rows


def setting_rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Settings as text, as they were given."""
    return [(name, _setting(value)) for name, value in settings.items()]


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_setting, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _artifact_accuracies(report: Report, task: str) -> dict[str, float | None]:
    """By title of the files that were run on the test images."""
    return {
        title: (report.artifacts[name].accuracy or {})[task]
        for name, title in tested_artifacts(report).items()
    }


def _timed_beside_teachers(report: Report) -> list[ArtifactResult]:
    files = report.artifacts.values()
    return [one for one in files if one.latency_beside_teachers_ms is not None]


def _points_between(one: float | None, other: float | None) -> str:
    return shown(difference(one, other), formats.points)


def _times_less(base: float | None, value: float | None) -> str:
    if not base or not value:
        return ""
    if value <= base:
        return f"{formats.ratio(base / value)} less"
    return f"{formats.ratio(value / base)} more"


def _percent(value: float) -> str:
    return f"{formats.percent(value)} %"


def _points(value: float) -> str:
    return f"{formats.points(value)} points"


_GOAL_FORMS: dict[str, Form] = {
    "fraction": _percent,
    "points": _points,
    "seconds": formats.duration,
    "milliseconds": formats.milliseconds,
    "bytes": formats.file_size,
    "ratio": formats.ratio,
    "number": formats.scalar,
}
_GAP_FORMS: dict[str, Form] = {
    "fraction": lambda gap: f"{100 * gap:.2f} points",
    "points": lambda gap: f"{100 * gap:.2f} points",
}

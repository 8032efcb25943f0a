"""The report as the page and the terminal show it: rows of text, each made from one number."""

from collections.abc import Callable, Mapping
from typing import Any

from keras_amalgam.evaluation.predictions import standard_error
from keras_amalgam.report import formats

NOT_RUN = "not run"

Form = Callable[[Any], str]

JOINT_NAMES = {
    "source_aware": "Student; in training each image's collection was known",
    "source_blind": "Student; in training nothing was known of an image",
    "teachers_source_blind": "Teachers side by side, their logits concatenated",
}
KEY_NAMES = {
    "teachers": "teachers together",
    "student": "student",
    "tflite_float32": "student, TFLite float32",
    "tflite_int8": "student, TFLite int8",
    "student_tflite_int8": "student, TFLite int8",
    "amalgamate": "amalgamation",
    "total": "whole job",
}


def shown(value: Any, form: Form) -> str:
    """A value in its form, or that it was not run."""
    return NOT_RUN if value is None else form(value)


def accuracy(value: float | None, num_images: int) -> str:
    """An accuracy in percent with its standard error."""
    return shown(value, lambda v: formats.percent(v, standard_error(v, num_images)))


def num_images(report: Mapping[str, Any]) -> int:
    """Test images of all tasks together."""
    return sum(entry["num_test_images"] for entry in report["tasks"].values())


def task_rows(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The headline: teacher, student, difference and int8 of each task, percent and points."""
    rows = []
    for task, entry in report["tasks"].items():
        teacher, student = entry["teacher_accuracy"], entry["student_accuracy"]
        int8, images = entry["tflite_int8_accuracy"], entry["num_test_images"]
        rows.append(
            {
                "task": task,
                "about": entry.get("teacher", ""),
                "images": formats.count(images),
                "teacher": accuracy(teacher, images),
                "canvas": accuracy(entry.get("teacher_canvas_accuracy", teacher), images),
                "student": accuracy(student, images),
                "difference": shown(minus(student, teacher), formats.points),
                "int8": accuracy(int8, images),
                "int8_difference": shown(minus(int8, student), formats.points),
                "agreement": shown(entry.get("agreement"), formats.percent),
            }
        )
    return rows


def canvas_differs(report: Mapping[str, Any]) -> bool:
    """Whether a teacher is more or less accurate on the canvas than in its own pipeline."""
    return any(
        entry.get("teacher_canvas_accuracy", entry["teacher_accuracy"]) != entry["teacher_accuracy"]
        for entry in report["tasks"].values()
    )


def tiles(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The few numbers that stand first on the page."""
    first = [
        {
            "about": task,
            "value": shown(entry["student_accuracy"], _percent),
            "text": f"student’s accuracy; teacher {shown(entry['teacher_accuracy'], _percent)}",
        }
        for task, entry in report["tasks"].items()
    ]
    weights, latency = report["parameters"], report["latency_ms"]
    last = [
        {
            "about": "size",
            "value": formats.count(weights["student"]),
            "text": f"parameters; teachers {formats.count(weights['teachers'])}",
        },
        {
            "about": "latency",
            "value": shown(latency["student_tflite_int8"], formats.milliseconds),
            "text": "an image, int8, one thread; teachers "
            f"{shown(latency['teachers'], formats.milliseconds)}",
        },
    ]
    return first + last


def joint_rows(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Joint accuracies, percent."""
    images = num_images(report)
    return [
        {"name": _joint_name(key), "accuracy": accuracy(value, images)}
        for key, value in report["joint_accuracy"].items()
    ]


def _joint_name(key: str) -> str:
    """The name of a known key, with what the key says beyond it in brackets."""
    for known, name in JOINT_NAMES.items():
        if key == known:
            return name
        if key.startswith(f"{known}_"):
            return f"{name} ({key.removeprefix(f'{known}_').replace('_', ' ')})"
    return key


def goal_rows(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Goals with what was measured and by how much it was missed."""
    rows: list[dict[str, str]] = []
    for entry in report["goals"]:
        form = _GOAL_FORMS[entry["unit"]]
        state, note = NOT_RUN, ""
        if entry["met"] is not None:
            state = "met" if entry["met"] else "missed"
            gap = abs(entry["value"] - entry["target"])
            note = "" if entry["met"] else f"by {_GAP_FORMS.get(entry['unit'], form)(gap)}"
        bound = "at least" if entry["at_least"] else "at most"
        rows.append(
            {
                "name": entry["name"],
                "target": f"{bound} {form(entry['target'])}",
                "value": shown(entry["value"], form),
                "state": state,
                "note": note,
            }
        )
    return rows


def cost_tables(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Parameters, file sizes, latencies and times; what teachers cost is the measure."""
    tables: tuple[tuple[str, str, Form, str], ...] = (
        ("Parameters", "parameters", formats.count, "weights of the Keras models"),
        ("Size", "bytes", formats.file_size, "of the files"),
        ("Latency", "latency_ms", formats.milliseconds, "one image, one thread, median"),
        ("Time", "seconds", formats.duration, "wall clock"),
    )
    result = []
    for title, section, form, about in tables:
        base = report[section].get("teachers")
        rows = [
            {
                "name": KEY_NAMES.get(key, key),
                "value": shown(value, form),
                "ratio": _times_less(base, value) if key != "teachers" else "",
            }
            for key, value in sorted(report[section].items(), key=_teachers_first)
        ]
        result.append({"title": title, "about": about, "rows": rows})
    return result


def parity_rows(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """How far each artifact's outputs are from the student's, and what it costs."""
    rows = []
    for artifact, entry in report["parity"].items():
        error, tolerance = entry["max_abs_error"], entry.get("tolerance")
        state = ""
        if error is not None and tolerance is not None:
            state = "within" if error <= tolerance else "exceeded"
        rows.append(
            {
                "artifact": artifact,
                "error": shown(error, formats.scalar),
                "tolerance": "" if tolerance is None else formats.scalar(tolerance),
                "images": _if_given(entry, "num_images", formats.count),
                "agreement": _if_given(entry, "agreement", formats.percent),
                "size": _if_given(entry, "bytes", formats.file_size),
                "latency": _if_given(entry, "latency_ms", formats.milliseconds),
                "state": state,
            }
        )
    return rows


def _if_given(entry: Mapping[str, Any], key: str, form: Form) -> str:
    return shown(entry[key], form) if key in entry else ""


def setting_rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Settings as text, as they were given."""
    return [(name, _setting(value)) for name, value in settings.items()]


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_setting, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def minus(one: float | None, other: float | None) -> float | None:
    """The difference, if both were measured."""
    return None if one is None or other is None else one - other


def _teachers_first(item: tuple[str, Any]) -> bool:
    return item[0] != "teachers"


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

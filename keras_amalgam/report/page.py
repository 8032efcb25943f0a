"""`report.json` for programs and `report.html` for people, from the same numbers."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from keras_amalgam.evaluation.embedding import CommonSpace
from keras_amalgam.evaluation.predictions import standard_error
from keras_amalgam.evaluation.samples import Sample
from keras_amalgam.files.writing import whole_file
from keras_amalgam.report import evidence, figures, formats, panels, view
from keras_amalgam.report.schema import check_report

SECTIONS = (
    "recipe",
    "created",
    "tasks",
    "joint_accuracy",
    "ownership",
    "goals",
    "parameters",
    "bytes",
    "latency_ms",
    "seconds",
    "parity",
    "ablation",
    "history",
    "confusion_matrix",
    "common_space",
    "settings",
    "notes",
    "versions",
)
_IN_GIVEN_ORDER = ("tasks", "parity", "history", "settings")


@dataclass(frozen=True)
class Pictures:
    """What the page shows beyond the numbers of `report.json`.

    Attributes:
        samples: Test images with predictions, from `draw_samples`.
        space: The common space, from `common_space`; `None` if it was not drawn.
        student: Which of the models in `space` is the student.
    """

    samples: Sequence[Sample] = field(default_factory=tuple)
    space: CommonSpace | None = None
    student: str = "student"


def write_report(
    directory: str | Path,
    report: Mapping[str, Any],
    pictures: Pictures | None = None,
    full_run: str | None = "make demo-full",
) -> tuple[Path, Path]:
    """Write `report.json` and the self-contained `report.html`.

    The report is checked and the page drawn before anything is written, and each file is replaced
    as a whole.

    Args:
        directory: Where to write; made if it does not exist.
        report: What `check_report` accepts. NumPy numbers and arrays are fine.
        pictures: Samples and the common space.
        full_run: The command that runs what this report did not, named on the page; `None` for
            none.

    Returns:
        The paths of `report.json` and `report.html`.

    Raises:
        ValueError: If the report is not complete; see `check_report`. Nothing is written then.
    """
    report = _ordered(_plain(report))
    check_report(report)
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    page = render_page(report, pictures, full_run)
    paths = Path(directory) / "report.json", Path(directory) / "report.html"
    for path, content in zip(paths, (text, page), strict=True):
        with whole_file(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return paths


def render_page(
    report: Mapping[str, Any],
    pictures: Pictures | None = None,
    full_run: str | None = "make demo-full",
) -> str:
    """The HTML page of a report, without writing it.

    Args:
        report: What `check_report` accepts.
        pictures: Samples and the common space.
        full_run: The command that runs what this report did not; `None` for none.

    Returns:
        An HTML document that loads nothing.
    """
    context = _context(report, pictures or Pictures())
    return _template().render(full_run=full_run, **context)


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


def _context(report: Mapping[str, Any], pictures: Pictures) -> dict[str, Any]:
    tasks = report["tasks"]
    untested = [task for task, entry in tasks.items() if not entry["num_test_images"]]
    history, settings = report.get("history"), report.get("settings")
    confusion = evidence.confusion_view(report)
    space = pictures.space
    colors = panels.series_colors(tasks, history, space)
    return {
        "report": {"created": "", "notes": [], **report},
        "not_run_word": view.NOT_RUN,
        "title": f"One student for {formats.words(list(tasks))}",
        "num_tasks": len(tasks),
        "num_images": formats.count(view.num_images(report)),
        "num_classes": f"{len(confusion['labels'])} " if confusion else "",
        "tiles": view.tiles(report),
        "task_rows": view.task_rows(report),
        "canvas_differs": view.canvas_differs(report),
        "has_agreement": any("agreement" in entry for entry in tasks.values()),
        "accuracy_figure": _accuracy_figure(report),
        "goals": view.goal_rows(report),
        "joint_rows": view.joint_rows(report),
        "untested": formats.words(untested) if len(untested) < len(tasks) else "",
        "joint_missing": None in report["joint_accuracy"].values(),
        "ablation": evidence.ablation_view(report),
        "costs": view.cost_tables(report),
        "parity": view.parity_rows(report),
        "panels": panels.loss_panels(history, colors) if history else [],
        "curve_legend": panels.curve_legend(history, colors) if history else [],
        "space": panels.space_view(space, pictures.student, colors) if space else None,
        "retrieval": evidence.retrieval_view(report),
        "confusion": confusion,
        "samples": panels.sample_groups(pictures.samples),
        "settings": view.setting_rows(settings) if settings else [],
        "sections": [
            ("accuracy", "Accuracy"),
            *([("goals", "Goals")] if report["goals"] else []),
            ("joint", "Joint"),
            ("terms", "Terms"),
            ("cost", "Size and speed"),
            ("parity", "Files"),
            ("curves", "Training"),
            ("space", "Common space"),
            ("confusion", "Confusion"),
            ("samples", "Samples"),
            ("run", "Run"),
        ],
    }


def _accuracy_figure(report: Mapping[str, Any]) -> Markup | None:
    rows = []
    for task, entry in report["tasks"].items():
        values = {
            "teacher": entry["teacher_accuracy"],
            "student": entry["student_accuracy"],
            "int8": entry["tflite_int8_accuracy"],
        }
        images = entry["num_test_images"]
        measured = {
            model: (value, standard_error(value, images))
            for model, value in values.items()
            if value is not None
        }
        if measured:
            rows.append((task, measured))
    return Markup(figures.accuracies(rows)) if rows else None


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays as Python's own, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(element) for key, element in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(element) for element in value]
    return value


def _ordered(report: Any) -> Any:
    """The same report in one order of keys, however it was put together.

    Sections stand in the order of `SECTIONS`. Tasks, files, the history and the settings keep their
    order, which says something; everything else is sorted.
    """
    if not isinstance(report, dict):
        return report
    places = {name: place for place, name in enumerate(SECTIONS)}
    names = sorted(report, key=lambda name: (places.get(name, len(places)), str(name)))
    return {name: _sorted_below(report[name], name in _IN_GIVEN_ORDER) for name in names}


def _sorted_below(value: Any, keep: bool) -> Any:
    if isinstance(value, dict):
        keys = value if keep else sorted(value, key=str)
        return {key: _sorted_below(value[key], keep=False) for key in keys}
    if isinstance(value, list):
        return [_sorted_below(element, keep=False) for element in value]
    return value

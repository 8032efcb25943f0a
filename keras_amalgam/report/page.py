"""`report.json` for programs and `report.html` for people, from the same numbers."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from keras_amalgam.evaluation.embedding import CommonSpace
from keras_amalgam.evaluation.samples import Sample
from keras_amalgam.files.writing import write_text
from keras_amalgam.report import evidence, figures, formats, panels, view
from keras_amalgam.report.results import Report
from keras_amalgam.text import page_template


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
    report: Report,
    pictures: Pictures | None = None,
    full_run: str | None = "make demo-full",
) -> tuple[Path, Path]:
    """Write `report.json` and the self-contained `report.html`.

    The page is drawn before anything is written, and each file is replaced as a whole.

    Args:
        directory: Where to write; made if it does not exist.
        report: The results.
        pictures: Samples and the common space.
        full_run: The command that runs what this report did not, named on the page; `None` for
            none.

    Returns:
        The paths of `report.json` and `report.html`.

    Raises:
        ValueError: If something in the report was changed since it was made, and is not right any
            more. Nothing is written then.
    """
    content = report.to_dict()
    report = Report.from_dict(content)
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    page = render_page(report, pictures, full_run)
    paths = Path(directory) / "report.json", Path(directory) / "report.html"
    for path, content in zip(paths, (text, page), strict=True):
        write_text(path, content)
    return paths


def render_page(
    report: Report,
    pictures: Pictures | None = None,
    full_run: str | None = "make demo-full",
) -> str:
    """The HTML page of a report, without writing it.

    Args:
        report: The results.
        pictures: Samples and the common space.
        full_run: The command that runs what this report did not; `None` for none.

    Returns:
        An HTML document that loads nothing.
    """
    context = _context(report, pictures or Pictures())
    return _template().render(full_run=full_run, **context)


@functools.cache
def _template() -> jinja2.Template:
    return page_template(Path(__file__).with_name("report.html"))


def _context(report: Report, pictures: Pictures) -> dict[str, Any]:
    tasks, history, space = report.tasks, report.history, pictures.space
    untested = [name for name, task in tasks.items() if not task.num_test_images]
    confusion = evidence.confusion_view(report)
    colors = panels.series_colors(tasks, history, space)
    joint = view.joint_rows(report)
    return {
        "report": report,
        "not_run_word": view.NOT_RUN,
        "title": f"One student for {formats.words(list(tasks))}",
        "num_tasks": len(tasks),
        "num_images": formats.count(view.num_images(report)),
        "num_classes": f"{len(confusion['labels'])} " if confusion else "",
        "tiles": view.tiles(report),
        "task_rows": view.task_rows(report),
        "tested_artifacts": view.tested_artifacts(report),
        "canvas_differs": view.canvas_differs(report),
        "has_agreement": any(task.agreement is not None for task in tasks.values()),
        "accuracy_figure": _accuracy_figure(report),
        "accuracy_legend": _accuracy_legend(report),
        "goals": view.goal_rows(report),
        "joint_rows": joint,
        "untested": formats.words(untested) if len(untested) < len(tasks) else "",
        "joint_missing": any(row["accuracy"] == view.NOT_RUN for row in joint),
        "choice": evidence.choice_view(report),
        "ablation": evidence.ablation_view(report),
        "costs": view.cost_tables(report),
        "artifacts": view.artifact_rows(report),
        "panels": panels.loss_panels(history, colors) if history else [],
        "curve_legend": panels.curve_legend(history, colors) if history else [],
        "space": panels.space_view(space, pictures.student, colors) if space else None,
        "retrieval": evidence.retrieval_view(report),
        "confusion": confusion,
        "samples": panels.sample_groups(pictures.samples),
        "settings": view.setting_rows(report.settings),
        "sections": [
            ("accuracy", "Accuracy"),
            *([("goals", "Goals")] if report.goals else []),
            ("joint", "Joint"),
            *([("choice", "Choice")] if report.choice else []),
            ("terms", "Terms"),
            ("cost", "Size and speed"),
            ("files", "Files"),
            ("curves", "Training"),
            ("space", "Common space"),
            ("confusion", "Confusion"),
            ("samples", "Samples"),
            ("run", "Run"),
        ],
    }


def _accuracy_figure(report: Report) -> Markup | None:
    rows = view.measured_accuracies(report)
    models = ["teacher", "student", *view.tested_artifacts(report).values()]
    return Markup(figures.accuracies(rows, models)) if rows else None


def _accuracy_legend(report: Report) -> list[tuple[str, str]]:
    """Markers of `_accuracy_figure` with what they stand for."""
    tested = [report.artifacts[name] for name in view.tested_artifacts(report)]
    names = ["teacher", "student", *map(view.of_student, tested)]
    return list(zip(figures.accuracy_signs(len(names)), names, strict=True))

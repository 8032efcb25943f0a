"""The report's evidence as the page shows it: terms removed, confusions, the common space."""

from collections.abc import Sequence
from typing import Any

from keras_amalgam.evaluation import ablation
from keras_amalgam.evaluation.ablation import AblationRun
from keras_amalgam.evaluation.confusion import ConfusionMatrix, Mistake
from keras_amalgam.report import formats
from keras_amalgam.report.results import Report
from keras_amalgam.report.view import shown

VERDICTS = {
    "helps": "its removal costs accuracy",
    "hurts": "its removal gains accuracy",
    "changes nothing": "its removal changes nothing",
    "helps and hurts": "its removal costs some accuracy and gains other",
}


def ablation_view(report: Report) -> dict[str, Any] | None:
    """Accuracy without each term, its verdict and its gradient norm; `None` if not run."""
    if report.ablation is None:
        return None
    full = ablation.full_run(report.ablation)
    limits = ablation.noise(full, report.num_images)
    removals = ablation.removals(report.ablation, report.num_images)
    columns = list(full.accuracies)
    by_verdict = {
        verdict: [removal.removed for removal in removals if removal.verdict == verdict]
        for verdict in VERDICTS
    }
    return {
        "columns": [column.lstrip("/") for column in columns],
        "full": [shown(full.accuracies[column], formats.percent) for column in columns],
        "limits": [shown(limits.get(column), formats.percent) for column in columns],
        "rows": [_removal_row(removal, columns) for removal in removals],
        "inert": by_verdict["changes nothing"],
        "hurts": by_verdict["hurts"],
        "inert_words": formats.words(by_verdict["changes nothing"]),
        "hurts_words": formats.words(by_verdict["hurts"]),
        "norms": _norm_table(report.ablation),
    }


def choice_view(report: Report) -> dict[str, Any] | None:
    """The methods that were tried, each with its agreement; `None` if none was chosen."""
    choice = report.choice
    if choice is None:
        return None
    tasks = list(choice.tried[0].agreement)
    return {
        "by": "joint decision" if choice.by == "joint" else "mean of the tasks",
        "doubt": choice.doubt,
        "diverged": formats.words([*choice.diverged]),
        "num_images": formats.count(choice.num_images),
        "columns": [*tasks, "joint"],
        "rows": [
            {
                "method": one.method,
                "is_chosen": one.method == report.student.method,
                "epochs": formats.count(one.epochs),
                "parameters": formats.count(one.parameters),
                "cells": [
                    *(formats.percent(one.agreement[task]) for task in tasks),
                    shown(one.joint_agreement, formats.percent),
                ],
            }
            for one in choice.tried
        ],
    }


def _removal_row(removal: ablation.Removal, columns: Sequence[str]) -> dict[str, Any]:
    return {
        "removed": removal.removed,
        "cells": [
            {
                "value": shown(removal.accuracy[column], formats.percent),
                "change": _change(removal.change[column]),
            }
            for column in columns
        ],
        "norm": [
            f"{teacher} {formats.scalar(norm)}".strip()
            for teacher, norm in removal.gradient_norms.items()
        ],
        "verdict": VERDICTS[removal.verdict],
        "inert": removal.verdict == "changes nothing",
    }


def confusion_view(report: Report, num_worst: int = 6) -> dict[str, Any] | None:
    """The matrix with shading, its most frequent mistakes and what crosses tasks."""
    matrix = report.confusion_matrix
    if matrix is None:
        return None
    tasks, total = matrix.tasks, matrix.total
    edges = [place > 0 and tasks[place] != tasks[place - 1] for place in range(len(tasks))]
    return {
        "labels": [
            {"name": label, "edge": edge} for label, edge in zip(matrix.labels, edges, strict=True)
        ],
        "rows": [
            {"label": label, "cells": _cells(matrix, place, edges), "edge": edges[place]}
            for place, label in enumerate(matrix.labels)
        ],
        "worst": [_about(mistake) for mistake in matrix.mistakes()[:num_worst]],
        "total": formats.count(total),
        "crossing": formats.count(matrix.crossing),
        "crossing_percent": formats.percent(matrix.crossing / total if total else 0.0),
        "num_tasks": len(set(tasks)),
    }


def _cells(matrix: ConfusionMatrix, place: int, edges: Sequence[bool]) -> list[dict[str, Any]]:
    label, row = matrix.labels[place], matrix.counts[place]
    of = sum(row)
    return [
        {
            "count": formats.count(number) if number else "",
            "shade": f"{100 * (number / of if of else 0.0) ** 0.5:.0f}",
            "kind": "right" if column == place else "wrong",
            "edge": edges[column],
            "about": _about(Mistake(label, matrix.labels[column], number, of)),
        }
        for column, number in enumerate(row)
    ]


def _about(one: Mistake) -> str:
    number, of = formats.count(one.count), formats.count(one.of)
    return f"{one.label} called {one.taken_for}: {number} of {of}"


def retrieval_view(report: Report) -> dict[str, Any] | None:
    """How often a class is found across models in the common space; `None` if not run."""
    space = report.common_space
    if space is None:
        return None
    return {
        "num_images": formats.count(space.num_images),
        "rows": [
            {"teacher": teacher, "value": formats.percent(value)}
            for teacher, value in space.class_retrieval.items()
        ],
    }


def _norm_table(runs: Sequence[AblationRun]) -> dict[str, Any]:
    losses = dict.fromkeys(loss for run in runs for loss in run.gradient_norms)
    return {
        "runs": ["all terms" if run.removed is None else f"without {run.removed}" for run in runs],
        "rows": [
            {
                "loss": loss,
                "cells": [
                    formats.scalar(run.gradient_norms[loss]) if loss in run.gradient_norms else ""
                    for run in runs
                ],
            }
            for loss in losses
        ],
    }


def _change(value: float | None) -> str:
    return "" if value is None else formats.points(value)

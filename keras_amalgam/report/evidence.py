"""The report's evidence as the page shows it: terms removed, confusions, the common space."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_amalgam.evaluation import ablation
from keras_amalgam.report import formats
from keras_amalgam.report.view import shown

VERDICTS = {
    "helps": "its removal costs accuracy",
    "hurts": "its removal gains accuracy",
    "changes nothing": "its removal changes nothing",
    "helps and hurts": "its removal costs some accuracy and gains other",
}


def ablation_view(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Accuracy without each term, its verdict and its gradient norm; `None` if not run."""
    if not report.get("ablation"):
        return None
    limits, removals = ablation.noise(report), ablation.removals(report)
    full = next(entry for entry in report["ablation"] if entry["removed"] is None)
    columns = [*report["tasks"], ablation.JOINT]
    baseline = {**full["tasks"], ablation.JOINT: full["joint"]}
    by_verdict = {
        verdict: [removal.removed for removal in removals if removal.verdict == verdict]
        for verdict in VERDICTS
    }
    return {
        "columns": [column.lstrip("/") for column in columns],
        "full": [shown(baseline[column], formats.percent) for column in columns],
        "limits": [shown(limits.get(column), formats.percent) for column in columns],
        "rows": [
            {
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
            for removal in removals
        ],
        "inert": by_verdict["changes nothing"],
        "hurts": by_verdict["hurts"],
        "inert_words": formats.words(by_verdict["changes nothing"]),
        "hurts_words": formats.words(by_verdict["hurts"]),
        "norms": _norm_table(report["ablation"]),
    }


def confusion_view(report: Mapping[str, Any], num_worst: int = 6) -> dict[str, Any] | None:
    """The matrix with shading, its most frequent mistakes and what crosses tasks."""
    matrix = report.get("confusion_matrix")
    if matrix is None:
        return None
    labels, tasks, counts = matrix["labels"], matrix["tasks"], matrix["counts"]
    rows, mistakes, crossing = [], [], 0
    for i, (label, row) in enumerate(zip(labels, counts, strict=True)):
        total = sum(row)
        cells = []
        for j, number in enumerate(row):
            share = number / total if total else 0.0
            edge = j > 0 and tasks[j] != tasks[j - 1]
            kind = "right" if i == j else "wrong"
            about = f"{label} called {labels[j]}: {formats.count(number)} of {formats.count(total)}"
            cells.append(
                {
                    "count": formats.count(number) if number else "",
                    "shade": f"{100 * share**0.5:.0f}",
                    "kind": kind,
                    "edge": edge,
                    "about": about,
                }
            )
            if i != j and number:
                mistakes.append((number, about))
            crossing += number * (tasks[i] != tasks[j])
        edge = i > 0 and tasks[i] != tasks[i - 1]
        rows.append({"label": label, "cells": cells, "edge": edge})
    total = sum(map(sum, counts))
    worst = sorted(mistakes, key=lambda mistake: -mistake[0])[:num_worst]
    return {
        "labels": [
            {"name": label, "edge": i > 0 and tasks[i] != tasks[i - 1]}
            for i, label in enumerate(labels)
        ],
        "rows": rows,
        "worst": [about for _, about in worst],
        "total": formats.count(total),
        "crossing": formats.count(crossing),
        "crossing_percent": formats.percent(crossing / total if total else 0.0),
        "num_tasks": len(set(tasks)),
    }


def retrieval_view(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """How often a class is found across models in the common space; `None` if not run."""
    space = report.get("common_space")
    if space is None:
        return None
    return {
        "num_images": formats.count(space["num_images"]),
        "rows": [
            {"teacher": teacher, "value": formats.percent(value)}
            for teacher, value in space["class_retrieval"].items()
        ],
    }


def _norm_table(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    losses = dict.fromkeys(loss for entry in entries for loss in entry["gradient_norms"])
    return {
        "runs": [
            "all terms" if entry["removed"] is None else f"without {entry['removed']}"
            for entry in entries
        ],
        "rows": [
            {
                "loss": loss,
                "cells": [
                    formats.scalar(entry["gradient_norms"][loss])
                    if loss in entry["gradient_norms"]
                    else ""
                    for entry in entries
                ],
            }
            for loss in losses
        ],
    }


def _change(value: float | None) -> str:
    return "" if value is None else formats.points(value)

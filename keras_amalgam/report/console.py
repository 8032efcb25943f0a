"""The table that the job prints at its end; as Markdown it is the README's."""

from collections.abc import Sequence

from keras_amalgam import text
from keras_amalgam.report import evidence, view
from keras_amalgam.report.results import Report


def format_table(report: Report, markdown: bool = False) -> str:
    """The report's headline as aligned text.

    Args:
        report: The results.
        markdown: Whether to write GitHub's tables instead of plain text.

    Returns:
        Lines without a trailing newline.
    """
    headers, rows = _headline(report)
    joint = [[row["name"], row["accuracy"]] for row in view.joint_rows(report)]
    cost = [
        [table["title"].lower(), row["name"], row["value"]]
        for table in view.cost_tables(report)
        for row in table["rows"]
    ]
    goals = [
        [row["name"], row["target"], row["value"], f"{row['state']} {row['note']}".strip()]
        for row in view.goal_rows(report)
    ]
    tables = [
        _table(headers, rows, f"l{'r' * (len(headers) - 1)}", markdown),
        _table(["joint accuracy, task unknown", "%"], joint, "lr", markdown),
        *_removed(report, markdown),
        _table(["cost", "of", "value"], cost, "llr", markdown),
    ]
    if goals:
        tables.append(_table(["goal", "target", "measured", "state"], goals, "lrrl", markdown))
    tables.append("± is one binomial standard error; differences are in percentage points.")
    return "\n\n".join(tables)


def _headline(report: Report) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the accuracies by task."""
    differs, rows = view.canvas_differs(report), view.task_rows(report)
    headers = [
        "task",
        "teacher %",
        *(["on the canvas %"] if differs else []),
        "student %",
        "difference",
        *(f"{title} %" for title in view.tested_artifacts(report).values()),
        "test images",
    ]
    return headers, [
        [
            row["task"],
            row["teacher"],
            *([row["canvas"]] if differs else []),
            row["student"],
            row["difference"],
            *(artifact["accuracy"] for artifact in row["artifacts"]),
            row["images"],
        ]
        for row in rows
    ]


def _removed(report: Report, markdown: bool) -> list[str]:
    """The table of what each term is worth, if the comparisons were run."""
    shown = evidence.ablation_view(report)
    if shown is None:
        return []
    columns = [f"{column} %" for column in shown["columns"]]
    rows = [
        [row["removed"], *(cell["value"] for cell in row["cells"]), row["verdict"]]
        for row in shown["rows"]
    ]
    nothing = ["nothing (all terms)", *shown["full"], ""]
    headers = ["term removed", *columns, "verdict"]
    return [_table(headers, [nothing, *rows], f"l{'r' * len(columns)}l", markdown)]


def _table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], sides: str, markdown: bool
) -> str:
    right = [column for column, side in enumerate(sides) if side == "r"]
    if markdown:
        return text.markdown(headers, rows, right, padded=True)
    return text.lines([headers, *rows], right, rule=True)

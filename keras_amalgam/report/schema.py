"""What `report.json` holds, and the check that refuses anything else before it is written.

Accuracies are fractions in 0..1. A measured number that was not measured is null, never left out.
"""

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

Check = Callable[[Any, str], None]

UNITS = ("fraction", "points", "seconds", "milliseconds", "bytes", "ratio", "number")
"""Units of a goal; `points` is a difference of two fractions, also written as a fraction."""


def goal(
    name: str, value: float | None, target: float, unit: str = "number", at_least: bool = True
) -> dict[str, Any]:
    """One goal of `report["goals"]`; whether it is met follows from the numbers.

    Args:
        name: What was aimed at.
        value: What was measured, or `None` if it was not.
        target: The least value that meets the goal, or the largest if `at_least` is false.
        unit: One of `UNITS`.
        at_least: Whether larger is better.

    Example:
    ```python
    goal("digits: student within 2 points of its teacher", 0.979 - 0.993, -0.02, "points")
    ```
    """
    met = None if value is None else _meets(value, target, at_least)
    return {
        "name": name,
        "target": target,
        "value": value,
        "met": met,
        "unit": unit,
        "at_least": at_least,
    }


def check_report(report: Mapping[str, Any]) -> None:
    """Refuse a report with a missing, misspelt, ill-typed or contradictory value.

    Args:
        report: What `write_report` is to write.

    Raises:
        ValueError: Naming the key, what it holds and what it must hold.
    """
    _REPORT(report, "report")
    tasks = report["tasks"]
    if not tasks:
        raise _error("report.tasks", tasks, "at least one task")
    _check_images(tasks, report["joint_accuracy"])
    for place, entry in enumerate(report["goals"]):
        _check_goal(entry, f"report.goals[{place}]")
    if report.get("confusion_matrix") is not None:
        _check_confusion(report["confusion_matrix"], tasks)
    if report.get("ablation"):
        _check_ablation(report["ablation"], tasks)


def _meets(value: float, target: float, at_least: bool) -> bool:
    """With room for the rounding of a difference of two fractions."""
    return bool(value >= target - 1e-9 if at_least else value <= target + 1e-9)


def _check_images(tasks: Mapping[str, Any], joint: Mapping[str, Any]) -> None:
    for name, task in tasks.items():
        accuracies = [value for key, value in task.items() if key.endswith("_accuracy")]
        measured = any(value is not None for value in [*accuracies, *joint.values()])
        if measured and not task["num_test_images"]:
            raise _error(f"report.tasks.{name}.num_test_images", 0, "at least one image")


def _check_goal(entry: Mapping[str, Any], path: str) -> None:
    expected = goal(**{key: value for key, value in entry.items() if key != "met"})["met"]
    if entry["met"] is not expected:
        raise _error(f"{path}.met", entry["met"], f"{expected}, as value and target say")


def _check_confusion(matrix: Mapping[str, Any], tasks: Mapping[str, Any]) -> None:
    path = "report.confusion_matrix"
    labels, counts = matrix["labels"], matrix["counts"]
    shape = [len(row) for row in counts]
    if not labels or shape != [len(labels)] * len(labels):
        raise _error(f"{path}.counts", f"rows of {shape}", f"{len(labels)} rows and columns")
    if len(matrix["tasks"]) != len(labels) or not set(matrix["tasks"]) <= set(tasks):
        raise _error(f"{path}.tasks", matrix["tasks"], f"for each label one of {list(tasks)}")


def _check_ablation(entries: list[Mapping[str, Any]], tasks: Mapping[str, Any]) -> None:
    removed = [entry["removed"] for entry in entries]
    if removed.count(None) != 1 or len(set(removed)) != len(removed):
        raise _error(
            "report.ablation",
            f"removed={removed}",
            "every term once, and once null: the run with all terms",
        )
    for place, entry in enumerate(entries):
        if set(entry["tasks"]) != set(tasks):
            raise _error(f"report.ablation[{place}].tasks", list(entry["tasks"]), list(tasks))


def _error(path: str, received: Any, expected: Any) -> ValueError:
    return ValueError(f"{path} is not right. Received: {received!r}. Expected: {expected}.")


def _text(value: Any, path: str) -> None:
    if not isinstance(value, str) or not value:
        raise _error(path, value, "a text")


def _truth(value: Any, path: str) -> None:
    if not isinstance(value, bool):
        raise _error(path, value, "true or false")


def _number(value: Any, path: str) -> None:
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise _error(path, value, "a finite number")


def _positive(value: Any, path: str) -> None:
    _number(value, path)
    if value < 0:
        raise _error(path, value, "a number, not negative")


def _fraction(value: Any, path: str) -> None:
    _number(value, path)
    if not 0 <= value <= 1:
        raise _error(path, value, "a fraction in 0..1 (not percent)")


def _count(value: Any, path: str) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
        raise _error(path, value, "a whole number, not negative")


def _images(value: Any, path: str) -> None:
    _count(value, path)
    if value < 1:
        raise _error(path, value, "at least one image")


def _unit(value: Any, path: str) -> None:
    if value not in UNITS:
        raise _error(path, value, f"one of {UNITS}")


def _setting(value: Any, path: str) -> None:
    if isinstance(value, list | tuple):
        _list(_setting)(value, path)
    elif not isinstance(value, str | bool):
        _number(value, path)


def _curve(value: Any, path: str) -> None:
    _list(_number)(value, path)
    if not value:
        raise _error(path, value, "at least one epoch")


def _maybe(check: Check) -> Check:
    def checked(value: Any, path: str) -> None:
        if value is not None:
            check(value, path)

    return checked


def _list(check: Check) -> Check:
    def checked(value: Any, path: str) -> None:
        if not isinstance(value, list | tuple):
            raise _error(path, value, "a list")
        for place, element in enumerate(value):
            check(element, f"{path}[{place}]")

    return checked


def _each(check: Check) -> Check:
    """A mapping with any names."""
    return _record({}, others=check)


def _record(
    required: Mapping[str, Check],
    optional: Mapping[str, Check] | None = None,
    others: Check | None = None,
) -> Check:
    """A mapping with required and optional keys; further ones only if `others` checks them."""
    optional = optional or {}

    def checked(value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            raise _error(path, value, "a mapping")
        for key in required:
            if key not in value:
                raise ValueError(
                    f"{path}.{key} is missing. Received: {list(value)}. Say null if it was not run."
                )
        for key, element in value.items():
            check = required.get(key) or optional.get(key) or others
            if check is None or not isinstance(key, str):
                raise ValueError(
                    f"{path}.{key} is not known. Expected: {[*required, *optional]}. "
                    "What has no place elsewhere belongs into report.settings."
                )
            check(element, f"{path}.{key}")

    return checked


_TASK = _record(
    {
        "teacher_accuracy": _maybe(_fraction),
        "student_accuracy": _maybe(_fraction),
        "tflite_int8_accuracy": _maybe(_fraction),
        "num_test_images": _count,
    },
    {
        "teacher_canvas_accuracy": _maybe(_fraction),
        "agreement": _maybe(_fraction),
        "teacher": _text,
    },
)
_REPORT = _record(
    {
        "recipe": _text,
        "ownership": _text,
        "tasks": _each(_TASK),
        "joint_accuracy": _record(
            {
                "source_aware": _maybe(_fraction),
                "source_blind": _maybe(_fraction),
                "teachers_source_blind": _maybe(_fraction),
            },
            others=_maybe(_fraction),
        ),
        "parameters": _record({"teachers": _count, "student": _count}, others=_count),
        "bytes": _record(
            {
                "teachers": _maybe(_count),
                "tflite_float32": _maybe(_count),
                "tflite_int8": _maybe(_count),
            },
            others=_maybe(_count),
        ),
        "latency_ms": _record(
            {"teachers": _maybe(_positive), "student_tflite_int8": _maybe(_positive)},
            others=_maybe(_positive),
        ),
        "seconds": _record(
            {"amalgamate": _maybe(_positive), "total": _maybe(_positive)}, others=_maybe(_positive)
        ),
        "parity": _each(
            _record(
                {"max_abs_error": _maybe(_positive)},
                {
                    "tolerance": _maybe(_positive),
                    "num_images": _images,
                    "agreement": _fraction,
                    "bytes": _count,
                    "latency_ms": _positive,
                },
            )
        ),
        "versions": _each(_text),
        "goals": _list(
            _record(
                {
                    "name": _text,
                    "target": _number,
                    "value": _maybe(_number),
                    "met": _maybe(_truth),
                    "unit": _unit,
                    "at_least": _truth,
                }
            )
        ),
    },
    {
        "created": _text,
        "ablation": _maybe(
            _list(
                _record(
                    {
                        "removed": _maybe(_text),
                        "tasks": _each(_maybe(_fraction)),
                        "joint": _maybe(_fraction),
                        "gradient_norms": _each(_positive),
                    }
                )
            )
        ),
        "history": _maybe(_each(_curve)),
        "confusion_matrix": _maybe(
            _record({"labels": _list(_text), "tasks": _list(_text), "counts": _list(_list(_count))})
        ),
        "common_space": _maybe(
            _record({"class_retrieval": _each(_fraction), "num_images": _images})
        ),
        "settings": _maybe(_each(_setting)),
        "notes": _maybe(_list(_text)),
    },
)

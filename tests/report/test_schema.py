import copy

import pytest

from keras_amalgam.report import check_report, goal, render_page


def _set(report: dict, path: str, value) -> None:
    *parents, last = path.split(".")
    for key in parents:
        report = report[int(key)] if isinstance(report, list) else report[key]
    report[int(last) if isinstance(report, list) else last] = value


def _delete(report: dict, path: str) -> None:
    *parents, last = path.split(".")
    for key in parents:
        report = report[key]
    del report[last]


REQUIRED = [
    "recipe",
    "ownership",
    "tasks",
    "tasks.digits.teacher_accuracy",
    "tasks.fashion.student_accuracy",
    "tasks.digits.tflite_int8_accuracy",
    "tasks.digits.num_test_images",
    "joint_accuracy.source_aware",
    "joint_accuracy.source_blind",
    "joint_accuracy.teachers_source_blind",
    "parameters.teachers",
    "parameters.student",
    "bytes.teachers",
    "bytes.tflite_float32",
    "bytes.tflite_int8",
    "latency_ms.teachers",
    "latency_ms.student_tflite_int8",
    "seconds.amalgamate",
    "seconds.total",
    "parity.saved_model.max_abs_error",
    "versions",
    "goals",
]


def test_a_complete_report_passes_and_so_does_one_without_what_is_optional(full_report):
    before = copy.deepcopy(full_report)
    check_report(full_report)
    for section in ("ablation", "history", "confusion_matrix", "common_space", "settings"):
        full_report[section] = None
    del full_report["notes"]
    check_report(full_report)
    assert before["tasks"] == full_report["tasks"]


@pytest.mark.parametrize("path", REQUIRED)
def test_a_missing_key_is_named(full_report, path):
    _delete(full_report, path)
    with pytest.raises(ValueError, match=rf"report\.{path} is missing"):
        check_report(full_report)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("tasks", {}, "at least one task"),
        ("tasks.digits.student_accuracy", 98.15, "fraction in 0..1"),
        ("tasks.digits.student_accuracy", float("nan"), "finite"),
        ("tasks.digits.student_accuracy", "0.98", "finite number"),
        ("tasks.digits.student_accuracy", True, "finite number"),
        ("tasks.digits.num_test_images", 0, "at least one image"),
        ("tasks.digits.num_test_images", -1, "not negative"),
        ("parameters.student", 55.5, "whole number"),
        ("parameters.student", None, "whole number"),
        ("latency_ms.teachers", -0.1, "not negative"),
        ("parity.saved_model", 1e-6, "a mapping"),
        ("versions.keras", 3.15, "a text"),
        ("ownership", "", "a text"),
        ("goals.0.unit", "percent", "one of"),
        ("goals.1.met", True, "as value and target say"),
        ("goals.5.met", True, "as value and target say"),
        ("history.loss", 0.4, "a list"),
        ("history.loss", [], "at least one epoch"),
        ("history.loss.2", float("inf"), "finite"),
        ("confusion_matrix.counts.3", [1, 2], "20 rows and columns"),
        ("confusion_matrix.tasks.3", "birds", "for each label one of"),
        ("ablation.0.removed", "everything", "once null"),
        ("ablation.1.removed", "common_features", "every term once"),
        ("ablation.1.tasks", {"digits": 0.9}, r"ablation\[1\].tasks"),
        ("settings.layers", {"first": 1}, "finite number"),
        ("settings.canvas", [28, None, "crop"], "finite number"),
        ("tasks.digits.teacher_canvas_accuracy", 25.0, "fraction in 0..1"),
    ],
)
def test_an_ill_typed_value_is_named(full_report, path, value, message):
    _set(full_report, path, value)
    with pytest.raises(ValueError, match=message) as raised:
        check_report(full_report)
    assert path.split(".")[0] in str(raised.value)


@pytest.mark.parametrize("path", ["accuracy", "tasks.digits.acuracy", "goals.0.reached"])
def test_a_misspelt_key_is_refused(full_report, path):
    _set(full_report, path, 0.5)
    with pytest.raises(ValueError, match="is not known"):
        check_report(full_report)


def _untested(report: dict) -> dict:
    for task in report["tasks"].values():
        task.update(dict.fromkeys(("teacher_accuracy", "student_accuracy", "agreement")))
        task.update(tflite_int8_accuracy=None, num_test_images=0)
    report["joint_accuracy"] = dict.fromkeys(report["joint_accuracy"])
    return report | {"ablation": [], "confusion_matrix": None, "goals": []}


def test_a_job_without_test_images_has_no_accuracies(full_report):
    untested = _untested(full_report)
    check_report(untested)
    assert "not tested: there were no labelled images" in render_page(untested)

    untested["joint_accuracy"]["source_aware"] = 0.9
    with pytest.raises(ValueError, match="at least one image"):
        check_report(untested)


def test_a_measurement_that_was_not_run_is_null(full_report):
    for path in REQUIRED[4:6] + REQUIRED[7:10] + REQUIRED[12:20]:
        _set(full_report, path, None)
    check_report(full_report)


@pytest.mark.parametrize(
    ("value", "target", "at_least", "met"),
    [
        (0.9, 0.9, True, True),
        (0.8999, 0.9, True, False),
        (0.976 - 0.981, -0.005, True, True),
        (301.0, 300.0, False, False),
        (299.0, 300.0, False, True),
        (None, 0.9, True, None),
    ],
)
def test_a_goal_is_met_by_its_numbers(value, target, at_least, met):
    assert goal("some", value, target, "fraction", at_least)["met"] is met

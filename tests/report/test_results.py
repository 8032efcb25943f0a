"""What a report may hold: the dataclasses, their JSON and the refusals."""

import copy
import dataclasses
import json

import numpy as np
import pytest

from keras_amalgam.export.verification.reference import canvas_beside
from keras_amalgam.report import Report, goal, render_page, write_report


def _set(report: dict, path: str, value) -> None:
    *parents, last = path.split("/")
    for key in parents:
        report = report[int(key)] if isinstance(report, list) else report[key]
    report[int(last) if isinstance(report, list) else last] = value


def _delete(report: dict, path: str) -> None:
    *parents, last = path.split("/")
    for key in parents:
        report = report[int(key)] if isinstance(report, list) else report[key]
    del report[last]


def _dotted(path: str) -> str:
    """A path as messages write it, `report.goals[0].unit`."""
    dotted = "report"
    for key in path.split("/"):
        dotted += f"[{key}]" if key.isdigit() else f".{key}"
    return dotted


def _keys(value, path=""):
    """Paths of the keys of all records below `value`, without names that are data."""
    named = {"tasks", "artifacts", "history", "settings", "versions", "accuracy"}
    named |= {"task_accuracy", "gradient_norms", "class_retrieval", "agreement"}
    if isinstance(value, list):
        for place, element in enumerate(value):
            yield from _keys(element, f"{path}/{place}")
    elif isinstance(value, dict):
        for key, element in value.items():
            here = f"{path}/{key}"
            if path.rsplit("/", 1)[-1] not in named:
                yield here[1:]
            yield from _keys(element, here)


MEASURED = [
    "tasks/digits/teacher_own_pipeline_accuracy",
    "tasks/digits/teacher_canvas_accuracy",
    "tasks/fashion/student_accuracy",
    "tasks/digits/agreement",
    "joint_accuracy/student",
    "joint_accuracy/teachers",
    "joint_accuracy/compared/1/accuracy",
    "teachers/bytes",
    "teachers/latency_ms",
    "artifacts/student_int8.tflite/bytes",
    "artifacts/student_int8.tflite/latency_ms",
    "artifacts/student_int8.tflite/latency_beside_teachers_ms",
    "artifacts/student_int8.tflite/min_agreement",
    "artifacts/student_int8.tflite/num_images",
    "artifacts/student_int8.tflite/accuracy/digits",
    "artifacts/student_int8.tflite/accuracy",
    "artifacts/saved_model/max_abs_error",
    "seconds/amalgamate",
    "seconds/total",
    "ablation/1/joint_accuracy",
    "ablation/1/task_accuracy/digits",
    "choice/tried/0/joint_agreement",
    "choice",
    "ablation",
    "history",
    "confusion_matrix",
    "common_space",
]


def test_report_reads_back_as_what_was_written(full_content, tmp_path):
    before = copy.deepcopy(full_content)
    report = Report.from_dict(full_content)
    path, _ = write_report(tmp_path, report)
    assert json.loads(path.read_text()) == full_content == before
    assert Report.from_dict(json.loads(path.read_text())) == report
    assert report.tasks["fashion"].student_accuracy == 0.8895
    assert report.confusion_matrix.counts[16][16] == before["confusion_matrix"]["counts"][16][16]
    assert report.settings["canvas"] == (30, 31, "crop")
    assert type(report.settings["epochs"]) is int


def test_every_key_of_the_report_is_named_when_it_is_missing(full_content):
    paths = list(_keys(full_content))
    for path in paths:
        damaged = copy.deepcopy(full_content)
        _delete(damaged, path)
        with pytest.raises(ValueError) as raised:
            Report.from_dict(damaged)
        if path != "version":
            assert str(raised.value).startswith(f"{_dotted(path)} is missing"), path
    assert len(paths) > 60


@pytest.mark.parametrize("path", MEASURED)
def test_a_measurement_that_was_not_run_is_null(full_content, path):
    _set(full_content, path, None)
    assert Report.from_dict(full_content).to_dict() == full_content


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("tasks", {}, "at least one task"),
        ("tasks", ["digits"], "a mapping"),
        ("tasks/digits/student_accuracy", 98.15, r"a fraction in 0\.\.1 \(not percent\)"),
        ("tasks/digits/student_accuracy", float("nan"), "a finite number"),
        ("tasks/digits/student_accuracy", "0.98", "a finite number"),
        ("tasks/digits/student_accuracy", True, "a finite number"),
        ("tasks/digits/teacher_canvas_accuracy", 25.0, r"a fraction in 0\.\.1"),
        ("tasks/digits/num_test_images", 0, "at least one image"),
        ("tasks/digits/num_test_images", -1, "a whole number, not negative"),
        ("student/parameters", 55.5, "a whole number"),
        ("student/parameters", None, "a whole number"),
        ("student/ownership", "", "a text"),
        ("teachers/latency_ms", -0.1, "milliseconds, not negative"),
        ("teachers/bytes", -1, "a whole number of bytes, not negative"),
        ("seconds/total", -1.0, "seconds, not negative"),
        ("artifacts/saved_model", 1e-6, "a mapping"),
        ("artifacts/saved_model/num_images", 0, "at least one image"),
        ("artifacts/saved_model/precision", None, "a text"),
        ("artifacts/student_int8.tflite/accuracy", {"digits": 0.5}, r"\['digits', 'fashion'\]"),
        ("artifacts/student_int8.tflite/accuracy/digits", 98.1, r"a fraction in 0\.\.1"),
        ("versions/keras", 3.15, "a text"),
        ("recipe", 7, "a text"),
        ("goals", {}, "a list"),
        ("goals/0/unit", "percent", r"one of \['fraction', 'points'"),
        ("goals/1/met", True, "as value and target say"),
        ("goals/5/met", True, "as value and target say"),
        ("goals/0/at_least", 1, "true or false"),
        ("history/loss", 0.4, "a list"),
        ("history/loss", [], "at least one epoch"),
        ("history/loss/2", float("inf"), "a finite number"),
        ("confusion_matrix/counts/3", [1, 2], "20 rows and columns"),
        ("confusion_matrix/tasks/3", "birds", "for each label one of"),
        ("choice/tried/0/agreement", {"digits": 0.5}, r"\['digits', 'fashion'\]"),
        ("choice/by", "loss", "'tasks'"),
        ("student/method", "untried", r"one of \['amalgamation', 'reused_heads'\], as tried"),
        ("ablation/0/removed", "everything", "once null"),
        ("ablation/1/removed", "common_features", "every term once"),
        ("ablation/1/task_accuracy", {"digits": 0.9}, r"\['digits', 'fashion'\]"),
        ("common_space/class_retrieval", {"birds": 0.5}, r"some of \['digits', 'fashion'\]"),
        ("joint_accuracy/compared/1/ownership", "source", "another than report.student.ownership"),
        ("settings/layers", {"first": 1}, "a text, .* a finite number"),
        ("settings/canvas", [28, None, "crop"], "a text, .* a finite number"),
        ("settings/rate", float("nan"), "a text, .* a finite number"),
    ],
)
def test_a_value_that_is_not_right_is_named_with_what_came_and_what_is_expected(
    full_content, path, value, message
):
    _set(full_content, path, value)
    with pytest.raises(ValueError, match=rf"is not right\. Received: .*\. Expected: .*{message}"):
        Report.from_dict(full_content)
    with pytest.raises(ValueError) as raised:
        Report.from_dict(full_content)
    assert str(raised.value).startswith(f"report.{path.split('/')[0]}")


@pytest.mark.parametrize(
    "path", ["accuracy", "tasks/digits/acuracy", "goals/0/reached", "joint_accuracy/sudent"]
)
def test_a_misspelt_key_is_refused(full_content, path):
    _set(full_content, path, 0.5)
    with pytest.raises(ValueError) as raised:
        Report.from_dict(full_content)
    assert str(raised.value).startswith(f"{_dotted(path)} is not known. Expected: [")


@pytest.mark.parametrize("version", [None, 1, 2, "3", True])
def test_another_version_is_refused_before_its_keys_are_read(full_content, version):
    earlier = {"version": version, "recipe": "of another time"}
    with pytest.raises(ValueError, match=r"report\.version is not right\. .* run the recipe again"):
        Report.from_dict(earlier)


def test_report_refuses_in_its_constructor_as_well(full_content):
    report = Report.from_dict(full_content)
    wrong = dataclasses.replace(report.tasks["digits"], student_accuracy=98.0)
    with pytest.raises(ValueError, match=r"report\.tasks\.digits\.student_accuracy is not right"):
        dataclasses.replace(report, tasks={**report.tasks, "digits": wrong})


def test_numpys_numbers_are_written_as_jsons(full_content):
    report = Report.from_dict(full_content)
    digits = dataclasses.replace(report.tasks["digits"], student_accuracy=np.float32(0.5))
    changed = dataclasses.replace(
        report,
        tasks={**report.tasks, "digits": digits},
        history={"loss": np.array([2.0, 1.0])},
    ).to_dict()
    assert changed["tasks"]["digits"]["student_accuracy"] == 0.5
    assert changed["history"] == {"loss": [2.0, 1.0]}
    json.dumps(changed)


def test_export_finds_the_canvas_in_the_report_beside_a_student(content, tmp_path):
    write_report(tmp_path, Report.from_dict(content))
    assert canvas_beside(tmp_path / "student.keras") == [30, 31, "crop"]


def _untested(content: dict) -> dict:
    for task in content["tasks"].values():
        task.update(dict.fromkeys(task), num_test_images=0)
    content["artifacts"]["student_int8.tflite"]["accuracy"] = dict.fromkeys(content["tasks"])
    content["joint_accuracy"] = {"student": None, "teachers": None, "compared": []}
    return content | {"ablation": None, "confusion_matrix": None, "goals": []}


def test_a_job_without_test_images_has_no_accuracies(full_content):
    untested = _untested(full_content)
    page = render_page(Report.from_dict(untested))
    assert "not tested: there were no labelled images" in page

    for path in ("joint_accuracy/student", "artifacts/student_int8.tflite/accuracy/digits"):
        measured = copy.deepcopy(untested)
        _set(measured, path, 0.9)
        with pytest.raises(ValueError, match="num_test_images is not right.*at least one image"):
            Report.from_dict(measured)


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
    assert goal("some", value, target, "fraction", at_least).met is met

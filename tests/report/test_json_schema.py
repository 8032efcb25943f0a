"""The JSON Schema of `report.json`, judged by an implementation that is not ours."""

import copy
import json
import runpy
from pathlib import Path

import jsonschema
import pytest

from keras_amalgam.report import Report, json_schema, write_report

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def validator():
    schema = json.loads((DOCS / "report.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_schema_beside_the_guides_is_what_the_dataclasses_say(capsys):
    runpy.run_module("keras_amalgam.report", run_name="__main__")
    printed = capsys.readouterr().out
    assert printed == (DOCS / "report.schema.json").read_text(encoding="utf-8")
    assert json.loads(printed) == json_schema()


def test_written_report_is_valid(validator, full_content, content, tmp_path):
    for number, one in enumerate((full_content, content)):
        path, _ = write_report(tmp_path / str(number), Report.from_dict(one))
        validator.validate(json.loads(path.read_text()))


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (("tasks", "digits", "student_accuracy"), 98.15),
        (("tasks", "digits", "student_accuracy"), "0.98"),
        (("tasks", "digits", "acuracy"), 0.5),
        (("tasks", "digits", "num_test_images"), -1),
        (("tasks",), {}),
        (("teachers", "bytes"), 0.5),
        (("artifacts", "saved_model", "precision"), ""),
        (("artifacts", "saved_model", "accuracy"), 0.5),
        (("goals", 0, "unit"), "percent"),
        (("history", "loss"), []),
        (("settings", "canvas"), [28, None, "crop"]),
        (("joint_accuracy",), None),
        (("version",), 1),
    ],
)
def test_schema_refuses_what_the_report_refuses(validator, full_content, change, value):
    *parents, last = change
    inner = full_content
    for key in parents:
        inner = inner[key]
    inner[last] = value
    assert not validator.is_valid(full_content)
    with pytest.raises(ValueError, match="report"):
        Report.from_dict(full_content)


def test_schema_wants_every_key_of_every_record(validator, full_content):
    for record in (
        (),
        ("tasks", "digits"),
        ("joint_accuracy",),
        ("joint_accuracy", "compared", 0),
        ("goals", 0),
        ("teachers",),
        ("student",),
        ("artifacts", "saved_model"),
        ("seconds",),
        ("choice",),
        ("choice", "tried", 0),
        ("ablation", 0),
        ("confusion_matrix",),
        ("common_space",),
    ):
        inner = full_content
        for key in record:
            inner = inner[key]
        for key in list(inner):
            kept = copy.copy(inner)
            del inner[key]
            assert not validator.is_valid(full_content), (record, key)
            inner.clear()
            inner.update(kept)
    validator.validate(full_content)


def test_every_key_is_described():
    schema = json_schema()
    for record in (schema, *schema["$defs"].values()):
        assert record["description"].endswith(".")
        for name, entry in record["properties"].items():
            assert len(entry["description"]) > 10, name

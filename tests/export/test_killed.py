"""Killed at any moment, an exporter leaves its target absent or whole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from keras_amalgam import export

# Exporter to its target and to what stands for the target's being there.
EXPORTERS = {
    "to_tflite": ("student.tflite", "student.tflite"),
    "to_onnx": ("student.onnx", "student.onnx"),
    "to_keras": ("student.keras", "student.keras"),
    "to_saved_model": ("model", "model/saved_model.pb"),
    "to_serving": ("bundle", "bundle/student/1/saved_model.pb"),
}


def is_part(name, exporter):
    """Whether a file is part of the artifact itself, and not something that stands beside it."""
    return name.startswith("bundle/student/1/") if exporter == "to_serving" else True


def assert_same_artifact(left, expected, exporter):
    for name, size in expected.items():
        if is_part(name, exporter):
            # Names of things inside an artifact vary a little from run to run.
            assert abs(left[name] - size) <= 16 + 0.01 * size, (name, left)


@pytest.mark.slow
@pytest.mark.matrix(slow=2)
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_target_is_absent_or_whole_wherever_the_exporter_is_killed(
    exporter, student, class_names, tmp_path
):
    export.to_keras(student, tmp_path / "student.keras")
    target, mark = EXPORTERS[exporter]
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("killed.py")),
            *(exporter, target, mark, "student.keras", json.dumps(class_names)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    whole, *killed = map(json.loads, done.stdout.splitlines())
    steps = whole["steps"]
    assert {"before fsync", "after fsync", "before replace", "after replace"} <= {
        step["step"] for step in steps
    }
    assert whole["status"] == 0 and mark in whole["left"]
    assert {mark in step["left"] for step in steps} == {True, False}
    for step in steps:
        if mark in step["left"]:
            assert_same_artifact(step["left"], whole["left"], exporter)
    # What was seen at a step is what a kill there leaves: two in a file, one at the first step,
    # and on both sides of the one that puts the artifact in its place.
    assert len(killed) == 5 and all(child["status"] < 0 for child in killed)
    for child in killed:
        at_a_step = isinstance(child["where"], int)
        seen = steps[child["where"]]["left"] if at_a_step else {}
        assert child["left"].keys() == seen.keys(), child
        assert_same_artifact(child["left"], seen, exporter)

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


@pytest.mark.slow
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
            *(exporter, target, "student.keras", json.dumps(class_names)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    steps = [line["killed"] for line in lines if "killed" in line]
    children = [line for line in lines if "status" in line]
    # Two were killed in the middle of a file, one was not killed, and the others at the steps.
    assert len(children) == len(steps) + 3
    assert {"before fsync", "after fsync", "before replace", "after replace"} <= set(steps)
    *killed, last = children
    assert last["status"] == 0 and mark in last["left"]
    assert all(child["status"] < 0 for child in killed)
    assert {mark in child["left"] for child in killed} == {True, False}
    for child in killed:
        if mark not in child["left"]:
            continue
        for name, size in last["left"].items():
            if is_part(name, exporter):
                # Names of things inside an artifact vary a little from run to run.
                assert abs(child["left"][name] - size) <= 16 + 0.01 * size, (name, child)

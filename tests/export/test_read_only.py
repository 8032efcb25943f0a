"""A folder that may not be written to: a clear error, and nothing left behind.

In a process of its own, which gives up the rights of root where it has them: root may write
anywhere. What it needs is loaded before, as other users may not read it.
"""

import json
import os
import subprocess
import sys

import pytest

WRITERS = {
    "to_saved_model": "saved_model",
    "to_keras": "student.keras",
    "to_onnx": "student.onnx",
    "to_tflite": "student.tflite",
    "to_serving": "bundle",
    "package": "dist",
}

EXPORT_WITHOUT_RIGHTS = """
import json, os, sys
import keras
import numpy as np
from keras_amalgam import export

writers, class_names = map(json.loads, sys.argv[1:])
student = keras.saving.load_model("student.keras", compile=False)
student.class_names = class_names

def package(model, path):
    images = np.zeros((2, 28, 28, 3), "uint8")
    return export.package(model, path, {"student.tflite": export.to_tflite}, images)

def write(writer, path):
    try:
        (package if writer == "package" else getattr(export, writer))(student, path)
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"

before = {writer: write(writer, os.path.join("free", name)) for writer, name in writers.items()}
if os.geteuid() == 0:
    os.seteuid(65534)
after = {writer: write(writer, os.path.join("locked", name)) for writer, name in writers.items()}
print(json.dumps({"before": before, "after": after}))
"""


@pytest.fixture(scope="module")
def outcomes(student, class_names, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rights")
    student.save(folder / "student.keras")
    (folder / "free").mkdir()
    (folder / "locked").mkdir(mode=0o555)
    # Pytest's own folders are closed to others; on the way there they need not read.
    for parent in (folder, *folder.parents):
        if "pytest" in parent.name:
            os.chmod(parent, 0o755)
    done = subprocess.run(
        [sys.executable, "-c", EXPORT_WITHOUT_RIGHTS, json.dumps(WRITERS), json.dumps(class_names)],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    yield folder, json.loads(done.stdout.splitlines()[-1])
    (folder / "locked").chmod(0o755)


@pytest.mark.slow
@pytest.mark.parametrize("writer", WRITERS)
def test_error_names_the_place_and_nothing_is_left(writer, outcomes):
    folder, said = outcomes
    assert said["before"][writer] is None
    assert "locked" in said["after"][writer]
    assert "Permission denied" in said["after"][writer]
    assert not list((folder / "locked").iterdir())

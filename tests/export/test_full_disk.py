"""A disk without room: a clear error, and nothing left behind.

In a process of its own: the limit holds for every file of a process, pytest's own output too.
"""

import json
import subprocess
import sys

import pytest

WRITERS = {
    "to_saved_model": "saved_model",
    "to_keras": "student.keras",
    "to_onnx": "student.onnx",
    "to_tflite": "student.tflite",
    "to_serving": "bundle",
}

# No file may grow beyond `room` bytes: as real to whoever writes as a full disk. Both outputs are
# pipes, which have no length, so only the exporter meets the limit.
EXPORT_WITH_LITTLE_ROOM = """
import json, os, resource, sys
import keras
from keras_amalgam import export

room, writers, class_names = map(json.loads, sys.argv[1:])
student = keras.saving.load_model("student.keras", compile=False)
resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
outcomes = {}
for writer, name in writers.items():
    os.mkdir(writer)
    try:
        getattr(export, writer)(student, os.path.join(writer, name), class_names=class_names)
        error = None
    except OSError as caught:
        error = str(caught)
    outcomes[writer] = {"error": error, "left": os.listdir(writer)}
print(json.dumps(outcomes))
"""


@pytest.fixture(scope="module")
def export_with_room(student, class_names, tmp_path_factory):
    def run(room):
        arguments = [json.dumps(value) for value in (room, WRITERS, class_names)]
        folder = tmp_path_factory.mktemp("disk")
        student.save(folder / "student.keras")
        done = subprocess.run(
            [sys.executable, "-c", EXPORT_WITH_LITTLE_ROOM, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.mark.slow
def test_no_room_is_an_os_error_and_leaves_nothing(export_with_room):
    outcomes = export_with_room(1024)
    assert {writer for writer, outcome in outcomes.items() if outcome["error"]} == set(WRITERS)
    assert all(outcome["left"] == [] for outcome in outcomes.values()), outcomes
    for writer, name in WRITERS.items():  # Of a bundle, the version.
        assert f"{writer}/{name}" in outcomes[writer]["error"], outcomes


@pytest.mark.slow
def test_with_room_the_same_exports_succeed(export_with_room):
    outcomes = export_with_room(100_000_000)
    assert [outcome["error"] for outcome in outcomes.values()] == [None] * len(WRITERS)
    assert all(name in outcomes[writer]["left"] for writer, name in WRITERS.items()), outcomes

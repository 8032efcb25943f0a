"""Artifacts run where this package does not exist, each with its own runtime alone."""

import json
import subprocess
import sys

import numpy as np
import pytest

BLOCK = """
import json, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Blocker())
try:
    import keras_amalgam
except ImportError:
    pass
else:
    raise SystemExit("keras_amalgam can be imported here")
import numpy as np
images = np.load("images.npy").astype(np.float32)
"""

REPORT = """
expected = np.load("expected.npz")
assert sorted(outputs) == sorted(expected), sorted(outputs)
errors = {h: float(np.abs(np.asarray(outputs[h]) - expected[h]).max()) for h in expected}
decisions = {h: (np.argmax(outputs[h], -1), np.argmax(expected[h], -1)) for h in expected}
same = {h: float((ours == theirs).mean()) for h, (ours, theirs) in decisions.items()}
print(json.dumps({"errors": errors, "same": same}))
"""

LITERT = """
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter("FILE").get_signature_runner("serving_default")
dtype = runner.get_input_details()["image"]["dtype"]
rows = [runner(image=image[None].astype(dtype)) for image in images]
outputs = {head: np.concatenate([row[head] for row in rows]) for head in rows[0]}
"""

RUNNERS = {
    "keras": (
        ["keras_amalgam"],
        "import keras\n"
        "outputs = keras.saving.load_model('student.keras').predict(images, verbose=0)",
    ),
    "saved_model": (
        ["keras_amalgam"],
        "import tensorflow as tf\n"
        "loaded = tf.saved_model.load('student')\n"
        "outputs = loaded.signatures['serving_default'](image=tf.constant(images))",
    ),
    "onnx": (
        ["keras_amalgam", "keras", "tensorflow"],
        "import onnxruntime\n"
        "session = onnxruntime.InferenceSession('student.onnx')\n"
        "heads = [output.name for output in session.get_outputs()]\n"
        "outputs = dict(zip(heads, session.run(heads, {'image': images})))",
    ),
    "float32": (
        ["keras_amalgam", "keras", "tensorflow"],
        LITERT.replace("FILE", "student_float32.tflite"),
    ),
    "int8": (
        ["keras_amalgam", "keras", "tensorflow"],
        LITERT.replace("FILE", "student_int8.tflite"),
    ),
}


@pytest.fixture(scope="module")
def folder(exported, student, images):
    np.save(exported.folder / "images.npy", images)
    np.savez(exported.folder / "expected.npz", **student.predict(images, verbose=0))
    return exported.folder


@pytest.mark.slow
@pytest.mark.parametrize("artifact", RUNNERS)
def test_artifact_agrees_in_a_process_without_this_package(artifact, folder):
    blocked, script = RUNNERS[artifact]
    result = subprocess.run(
        [sys.executable, "-I", "-c", BLOCK.format(blocked=blocked) + script + REPORT],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    if artifact == "int8":
        assert min(report["same"].values()) >= 0.97
    else:
        assert max(report["errors"].values()) <= 1e-4

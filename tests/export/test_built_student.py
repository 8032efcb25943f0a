"""What `build_student` gives goes into every format as it is."""

import numpy as np
import pytest

from keras_amalgam import export
from keras_amalgam.export.tflite import runtime as tflite_runtime

EXPORTERS = {
    "built.keras": export.to_keras,
    "built": export.to_saved_model,
    "built.onnx": export.to_onnx,
    "built.tflite": export.to_tflite,
}


@pytest.mark.matrix
@pytest.mark.parametrize("name", EXPORTERS)
def test_built_student_needs_no_further_argument(name, make, teachers, tmp_path):
    student = make.student(teachers)
    artifact = EXPORTERS[name](student, tmp_path / name)
    assert artifact.heads == ("digits", "shapes")
    assert artifact.parity["max_abs_error"] <= 1e-4
    assert export.read_labels(artifact.path)["shapes"] == ("circle", "square")


def test_built_student_of_any_size_is_fixed_at_what_it_resizes_to(make, teachers, tmp_path):
    student = make.student(teachers, size=12)
    assert student.input_shape == (None, None, None, 1)
    artifact = export.to_tflite(student, tmp_path / "built.tflite")
    loaded = tflite_runtime.load(artifact.path)
    assert loaded.image_shape == (1, 12, 12, 1)
    images = make.images(count=4, size=12)
    outputs = tflite_runtime.run(loaded, images)
    for head, values in student.predict(images, verbose=0).items():
        np.testing.assert_allclose(outputs[head], values, atol=1e-4)

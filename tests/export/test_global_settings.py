"""What a user set globally in Keras does not reach what is exported."""

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

from keras_amalgam import export
from keras_amalgam.export.tflite import runtime


def answers(path, images):
    """What an exported file or folder gives, in its own runtime."""
    if path.suffix == ".keras":
        return keras.saving.load_model(path)(images, training=False)
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {"image": images}), strict=True))
    if path.suffix == ".tflite":
        return runtime.run(runtime.load(path), images)
    return tf.saved_model.load(str(path)).signatures["serving_default"](image=tf.constant(images))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "name"),
    [
        (export.to_keras, "student.keras"),
        (export.to_saved_model, "student"),
        (export.to_onnx, "student.onnx"),
        (export.to_tflite, "student_float32.tflite"),
    ],
)
def test_artifact_is_the_same_under_all_settings(
    write, name, exported, student, images, tmp_path, all_settings
):
    with all_settings():
        artifact = write(student, tmp_path / name, images=images)
    before = next(a for a in exported.artifacts.values() if a.path.name == name)
    assert (artifact.operators, artifact.precision) == (before.operators, before.precision)
    some = images[:8].astype("float32")
    expected, received = answers(before.path, some), answers(artifact.path, some)
    for head, values in expected.items():
        np.testing.assert_allclose(received[head], values, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_bundle_answers_the_same_under_all_settings(student, images, tmp_path, all_settings):
    with all_settings():
        export.to_serving(student, tmp_path / "bundle", images=images)
    signatures = tf.saved_model.load(str(tmp_path / "bundle/student/1")).signatures
    received = signatures["serving_default"](image=tf.constant(images[:8].astype("float32")))
    expected = student(images[:8], training=False)
    for head, values in expected.items():
        np.testing.assert_allclose(received[head], values, rtol=0, atol=1e-4)


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("write", "name"),
    [(export.to_onnx, "student.onnx"), (export.to_tflite, "student.tflite")],
)
def test_student_in_double_precision_is_written_in_float32(
    write, name, make_student, student, images, tmp_path
):
    double = make_student(policy="float64")
    assert double.layers[-1].variables[0].dtype == "float32"
    assert "float64" in {layer.compute_dtype for layer in double.layers}
    artifact = write(double, tmp_path / name, images=images)
    assert artifact.precision == "float32"
    some = images[:8].astype("float32")
    received, expected = answers(artifact.path, some), student(some, training=False)
    for head, values in expected.items():
        np.testing.assert_allclose(received[head], values, rtol=0, atol=1e-4)


def test_student_that_takes_channels_first_is_refused(tmp_path):
    images = keras.Input((3, 16, 16))
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_first")(images)
    model = keras.Model(images, {"head": keras.layers.Dense(2)(x)}, name="first")
    model.class_names = {"head": ("a", "b")}
    with pytest.raises(ValueError, match="Model 'first' takes its images channels-first"):
        export.to_onnx(model, tmp_path / "first.onnx")
    assert list(tmp_path.iterdir()) == []

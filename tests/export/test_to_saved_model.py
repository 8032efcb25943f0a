import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam import export


def test_signature_takes_any_batch_and_returns_named_heads(exported, student, images):
    artifact = exported.artifacts["saved_model"]
    assert artifact.parity["max_abs_error"] <= 1e-4
    assert artifact.heads == ("quadrant", "colour")
    loaded = tf.saved_model.load(str(artifact.path))
    serve = loaded.signatures["serving_default"]
    spec = serve.structured_input_signature[1]
    assert spec == {"image": tf.TensorSpec((None, 28, 28, 3), tf.float32, name="image")}
    assert {head: tuple(t.shape) for head, t in serve.structured_outputs.items()} == {
        "quadrant": (None, 4),
        "colour": (None, 4),
    }
    outputs = serve(image=tf.constant(images[:3], tf.float32))
    expected = student(images[:3], training=False)
    for head, values in expected.items():
        np.testing.assert_allclose(outputs[head], values, atol=1e-4)


def test_bundle_holds_the_students_weights_and_nothing_else(exported, student):
    assert student.optimizer is not None
    names = tf.train.list_variables(str(exported.folder / "student" / "variables" / "variables"))
    held = sum(int(np.prod(shape)) for name, shape in names if name.endswith("VARIABLE_VALUE"))
    assert held == student.count_params()


def test_size_is_that_of_all_files(exported):
    artifact = exported.artifacts["saved_model"]
    files = [file for file in artifact.path.rglob("*") if file.is_file()]
    assert artifact.bytes == sum(len(file.read_bytes()) for file in files)


def test_any_image_size_stays_any(nested_student, tmp_path):
    artifact = export.to_saved_model(nested_student, tmp_path / "nested")
    serve = tf.saved_model.load(str(artifact.path)).signatures["serving_default"]
    image = tf.random.stateless_uniform((2, 50, 41, 1), (1, 2), 0, 255)
    np.testing.assert_allclose(
        serve(image=image)["wide"], nested_student(image, training=False)["wide"], atol=1e-4
    )


def test_mixed_precision_student_is_written_in_float32(make_student, images, tmp_path):
    artifact = export.to_saved_model(
        make_student(policy="mixed_bfloat16"), tmp_path / "mixed", images=images
    )
    assert artifact.parity["max_abs_error"] <= 1e-4


def test_writing_is_silent_and_failing_leaves_nothing(
    student, images, tmp_path, capfd, monkeypatch
):
    export.to_saved_model(student, tmp_path / "model")
    assert capfd.readouterr() == ("", "")
    written = (tmp_path / "model" / "saved_model.pb").read_bytes()
    with pytest.raises(ValueError, match="exists already"):
        export.to_saved_model(student, tmp_path / "model")
    module = sys.modules[export.to_saved_model.__module__]
    run = module.run
    monkeypatch.setattr(
        module, "run", lambda *given: {head: values / 2 for head, values in run(*given).items()}
    )
    with pytest.raises(ValueError, match="SavedModel '.*model' disagrees.*at most 0.01"):
        export.to_saved_model(student, tmp_path / "model", tolerance=0.01, overwrite=True)
    assert (tmp_path / "model" / "saved_model.pb").read_bytes() == written
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_tensorflows_operators_are_counted(exported):
    operators = exported.artifacts["saved_model"].operators
    assert operators["DepthwiseConv2dNative"] == 3 and operators["Relu"] == 3
    assert not {"StatefulPartitionedCall", "SaveV2", "RestoreV2"} & operators.keys()

"""The student with its embedding, against the term's own layers and in every artifact."""

import functools
import subprocess
import sys

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

import keras_amalgam as ka
from keras_amalgam import export

LOADED_WITHOUT_US = """
import sys
sys.modules["keras_amalgam"] = None
import keras, numpy as np
given = np.load("given.npz")
outputs = keras.saving.load_model("student.keras").predict(given["images"], verbose=0)
assert sorted(outputs) == ["digits", "embedding", "shapes"], sorted(outputs)
error = np.abs(outputs["embedding"] - given["embedding"]).max()
assert error < 1e-5, error
"""


@pytest.fixture
def amalgamator(build, make):
    # Two steps that need no graph: tracing one takes longer than most of the tests.
    model = build(batch_norm=False, compile_with={"run_eagerly": True})
    model.fit(make.images(), epochs=2, verbose=0)
    return model


def _expected(amalgamator, images):
    """Common features of the term's layers, flattened and normalized by NumPy."""
    student, teachers = amalgamator.signals(images)
    term = amalgamator.terms[1]
    common = term.embed(
        student.features["features"], [one.features["features"] for one in teachers.values()]
    )[0]
    rows = np.asarray(common).reshape(len(images), -1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_embedding_is_what_the_term_compares(amalgamator, make):
    images = make.images(6, seed=3)
    model = export.with_common_embedding(amalgamator)
    outputs = model(images, training=False)
    expected = _expected(amalgamator, images)
    assert expected.std(axis=0).max() > 1e-3  # Images that are told apart.
    np.testing.assert_allclose(outputs.pop("embedding"), expected, atol=1e-6)
    logits = amalgamator.student(images, training=False)
    assert outputs.keys() == logits.keys()
    for head in logits:
        np.testing.assert_array_equal(outputs[head], logits[head])


@pytest.mark.parametrize(
    "form",
    [{"variant": "B"}, {"pooled": True}, {"variant": "B", "pooled": True}, {"subspace": 3}],
    ids=str,
)
def test_embedding_of_every_form_loads_with_keras_alone(build, make, form, tmp_path):
    terms = [ka.SoftTargets(), ka.CommonFeatures(units=4, **form)]
    model = build(terms, batch_norm=False, compile_with={"run_eagerly": True})
    model.fit(make.images(), epochs=1, verbose=0)
    images = make.images(6, seed=3)
    export.with_common_embedding(model).save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert not any(type(layer).__module__.startswith("keras_amalgam") for layer in again.layers)
    received = again.predict(images, verbose=0)["embedding"]
    np.testing.assert_allclose(received, _expected(model, images), atol=1e-5)


def test_twin_an_embedding_of_other_weights_is_told_apart(amalgamator, make):
    images = make.images(6, seed=3)
    model = export.with_common_embedding(amalgamator)
    expected = _expected(amalgamator, images)
    kernel = amalgamator.terms[1].student_adapter.linear.kernel
    kernel.assign(kernel + 0.1 * tf.random.stateless_normal(kernel.shape, (1, 2)))
    moved = model(images, training=False)["embedding"]  # It shares the weights.
    assert np.abs(moved - expected).max() > 1e-3
    np.testing.assert_allclose(moved, _expected(amalgamator, images), atol=1e-6)


def test_vectors_at_the_tap(teachers, make):
    pooled = [
        ka.Teacher(
            teacher.model,
            name=teacher.name,
            class_names=teacher.class_names,
            tap=f"{teacher.name}_pooled",
            preprocessing=teacher.preprocessing,
        )
        for teacher in teachers
    ]
    image = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(6, 3, activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D(name="vector")(x)
    student = ka.build_student(keras.Model(image, x), pooled)
    terms = [ka.SoftTargets(), ka.CommonFeatures(units=4)]
    amalgamator = ka.Amalgamator(student, pooled, student_tap="vector", terms=terms)
    outputs = export.with_common_embedding(amalgamator, name="place")(make.images(5))
    np.testing.assert_allclose(outputs["place"], _expected(amalgamator, make.images(5)), atol=1e-6)


@pytest.mark.slow
def test_keras_file_loads_without_this_package(amalgamator, make, tmp_path):
    images = make.images(4).astype(np.float32)
    export.to_keras(export.with_common_embedding(amalgamator), tmp_path / "student.keras")
    expected = _expected(amalgamator, images)
    np.savez(tmp_path / "given.npz", images=images, embedding=expected)
    command = [sys.executable, "-c", LOADED_WITHOUT_US]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.usefixtures("verified_here")
def test_package_of_every_format_verifies_it(amalgamator, make, tmp_path):
    model = export.with_common_embedding(amalgamator)
    images = make.images(48)
    int8 = functools.partial(export.to_tflite, precision="int8", calibration=images)
    verified = export.package(
        model,
        tmp_path / "dist",
        {
            "student.tflite": functools.partial(export.to_tflite, joint=True, top_k=2),
            "int8.tflite": int8,
            "student.onnx": export.to_onnx,
            "student": export.to_saved_model,
        },
        images=images,
    )
    for one in verified.values():
        heads = one.measured["heads"]
        assert heads["embedding"]["argmax_agreement"] is None
        assert heads["embedding"]["max_abs_error"] <= 0.05
        assert heads["digits"]["argmax_agreement"] >= 0.9
    labels = export.read_labels(tmp_path / "dist" / "student.tflite")
    assert labels["embedding"] == ()
    assert len(labels["joint"]) == 5
    session = onnxruntime.InferenceSession(tmp_path / "dist" / "student.onnx")
    one = images[:2].astype(np.float32)
    (given,) = session.run(["embedding"], {"image": one})
    np.testing.assert_allclose(given, _expected(amalgamator, images[:2]), atol=1e-5)
    assert "embedding" in (tmp_path / "dist" / "export.html").read_text()


@pytest.mark.slow
def test_bundle_gives_it_beside_the_classes(amalgamator, make, tmp_path):
    model = export.with_common_embedding(amalgamator)
    artifact = export.to_serving(model, tmp_path / "bundle", images=make.images(8))
    signatures = tf.saved_model.load(str(artifact.path)).signatures
    classes = {"digits_classes", "digits_scores", "shapes_classes", "shapes_scores"}
    assert set(signatures["classify"].structured_outputs) == classes
    assert "embedding" in signatures["encoded"].structured_outputs
    readme = (tmp_path / "bundle" / "README.md").read_text()
    assert "`embedding`" in readme
    assert "embedding_classes" not in readme


def test_student_is_no_amalgamator(amalgamator):
    with pytest.raises(TypeError, match="Received: an object of type Functional"):
        export.with_common_embedding(amalgamator.student)


def test_training_without_a_common_space_has_none(build):
    with pytest.raises(ValueError, match="0 terms"):
        export.with_common_embedding(build(terms=[ka.SoftTargets()]))


def test_name_of_a_task_is_refused(amalgamator):
    with pytest.raises(ValueError, match="'digits', which is a task"):
        export.with_common_embedding(amalgamator, name="digits")


def test_model_whose_outputs_have_no_classes_is_refused(amalgamator, tmp_path):
    model = export.with_common_embedding(amalgamator)
    nothing = dict.fromkeys(model.class_names, ())
    with pytest.raises(ValueError, match="No output"):
        export.to_onnx(model, tmp_path / "student.onnx", class_names=nothing)
    assert not list(tmp_path.iterdir())

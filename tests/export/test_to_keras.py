import sys
import zipfile

import keras
import numpy as np
import pytest

from keras_amalgam import export


@keras.saving.register_keras_serializable(package="somewhere")
class Foreign(keras.layers.Layer):
    def call(self, inputs):
        return inputs


def test_file_is_the_student_without_its_optimizer(exported, student, images):
    artifact = exported.artifacts["keras"]
    assert artifact.parity["max_abs_error"] <= 1e-4
    loaded = keras.saving.load_model(artifact.path)
    assert student.compiled
    assert not loaded.compiled
    assert loaded.count_params() == student.count_params()
    for head, values in loaded(images, training=False).items():
        np.testing.assert_allclose(values, student(images, training=False)[head], atol=1e-4)
    with zipfile.ZipFile(artifact.path) as archive:
        assert b"keras_amalgam" not in archive.read("config.json")


def test_labels_lie_beside(exported):
    assert (exported.folder / "student.labels.json").is_file()


def test_mixed_precision_stays_mixed(make_student, images, tmp_path):
    artifact = export.to_keras(
        make_student(policy="mixed_float16"), tmp_path / "mixed.keras", images=images
    )
    loaded = keras.saving.load_model(artifact.path)
    assert loaded.layers[2].compute_dtype == "float16"
    assert artifact.precision == "mixed_float16"


def test_foreign_classes_are_refused_by_name(tmp_path):
    image = keras.Input((8, 8, 1))
    inner = keras.Sequential([keras.Input((8, 8, 1)), Foreign(), keras.layers.Flatten()])
    model = keras.Model(image, {"a": keras.layers.Dense(2)(inner(image))}, name="odd")
    with pytest.raises(ValueError, match=r"Plain Keras cannot load model 'odd'.*Foreign"):
        export.to_keras(model, tmp_path / "a.keras", class_names={"a": ("x", "y")})
    assert list(tmp_path.iterdir()) == []


def square(x):
    return x * x


@keras.saving.register_keras_serializable(package="somewhere")
def cube(x):
    return x * x * x


class InMain(keras.layers.Layer):
    """As in a notebook, whose classes Keras saves without a module."""

    def call(self, inputs):
        return inputs


InMain.__module__ = "__main__"


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (lambda: keras.layers.Activation(square), "the function square"),
        (lambda: keras.layers.Activation(cube), "the function somewhere>cube"),
        (lambda: keras.layers.Lambda(square, (8, 8, 1)), "the function square"),
        (lambda: keras.layers.Lambda(lambda x: x, (8, 8, 1)), "the code of a Lambda"),
        (InMain, "InMain"),
    ],
)
def test_what_plain_keras_has_not_is_refused_by_name(layer, name, tmp_path):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(layer()(image))
    model = keras.Model(image, {"a": keras.layers.Dense(2)(x)}, name="odd")
    with pytest.raises(ValueError, match=f"cannot load model 'odd'. Received: {name}. Expected"):
        export.to_keras(model, tmp_path / "a.keras", class_names={"a": ("x", "y")})
    assert list(tmp_path.iterdir()) == []


def test_layers_are_counted(exported):
    assert exported.artifacts["keras"].operators["SeparableConv2D"] == 3


def test_disagreement_leaves_nothing(student, make_student, tmp_path, monkeypatch):
    module = sys.modules[export.to_keras.__module__]
    monkeypatch.setattr(module, "bare_copy", lambda model: make_student(mean=0.4))
    with pytest.raises(ValueError, match=r"Keras file '.*a\.keras' disagrees"):
        export.to_keras(student, tmp_path / "a.keras")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"ending in '\.keras'"):
        export.to_keras(student, tmp_path / "a.h5")

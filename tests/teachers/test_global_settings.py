"""What a user set globally in Keras does not reach what is converted or read."""

import json
import zipfile

import keras
import numpy as np
import onnx
import pytest
from onnx import helper

import keras_amalgam as ka
from keras_amalgam import teachers

NORMAL = ka.Preprocessing(size=(9, 8), mean=0.5, std=0.5)


def numbers_of(model, images):
    """All weights and outputs, and the types of both."""
    output = model(images, training=False)
    arrays = [*model.get_weights(), keras.ops.convert_to_numpy(output)]
    return arrays, [str(array.dtype) for array in arrays]


def assert_equal(received, expected):
    for mine, its in zip(received[0], expected[0], strict=True):
        np.testing.assert_allclose(mine, its, rtol=0, atol=1e-6)
    assert received[1] == expected[1]


@pytest.fixture
def path(network, tmp_path):
    onnx.save(network, tmp_path / "network.onnx")
    return tmp_path / "network.onnx"


@pytest.fixture
def keras_path(path, tmp_path):
    teachers.from_onnx(path).save(tmp_path / "network.keras")
    return tmp_path / "network.keras"


@pytest.mark.matrix(keep=2)
def test_converted_network_is_the_same_under_every_setting(path, random, one_setting):
    images = random(3, 9, 8, 3)
    expected = numbers_of(teachers.from_onnx(path), images)
    with one_setting():
        model = teachers.from_onnx(path)
    assert_equal(numbers_of(model, images), expected)


@pytest.mark.matrix
def test_converted_network_computes_the_same_while_the_setting_lasts(path, random, one_setting):
    images = random(3, 9, 8, 3)
    expected = numbers_of(teachers.from_onnx(path), images)
    with one_setting():
        received = numbers_of(teachers.from_onnx(path), images)
    assert_equal(received, expected)


@pytest.mark.matrix
def test_keras_file_is_the_same_under_every_setting(keras_path, random, one_setting):
    images = random(3, 9, 8, 3)
    expected = numbers_of(teachers.from_keras(keras_path), images)
    with one_setting():
        model = teachers.from_keras(keras_path)
    assert_equal(numbers_of(model, images), expected)


def test_saved_model_is_the_same_under_all_settings(keras_path, random, tmp_path, all_settings):
    keras.saving.load_model(keras_path).export(tmp_path / "saved", verbose=False)
    images = random(3, 9, 8, 3)
    expected = numbers_of(teachers.from_saved_model(tmp_path / "saved"), images)
    with all_settings():
        model = teachers.from_saved_model(tmp_path / "saved")
    assert_equal(numbers_of(model, images), expected)


@pytest.mark.matrix(keep=2)
def test_runtime_teacher_sees_the_same_images_under_every_setting(path, random, one_setting):
    def signals():
        teacher = teachers.runtime_teacher(
            path, name="net", class_names=list("abcde"), preprocessing=NORMAL
        )
        return teacher.answers()(images)[teacher.name]

    images = random(3, 20, 31, 3, low=0, high=255)
    expected = signals()
    with one_setting():
        received = signals()
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-6)


@pytest.mark.matrix
def test_teacher_agrees_with_its_source_under_every_setting(path, one_setting):
    with one_setting():
        teacher = ka.Teacher(
            teachers.from_onnx(path),
            name="net",
            class_names=list("abcde"),
            preprocessing=NORMAL,
        )
        report = teachers.check_teacher(teacher, path)
    assert report["passed"]


def test_settings_are_the_users_again_after_a_refusal(tmp_path, one_setting):
    (tmp_path / "damaged.onnx").write_bytes(b"no protocol buffer")
    with one_setting(), pytest.raises(ValueError, match="damaged"):
        teachers.from_onnx(tmp_path / "damaged.onnx")


def layouts_left_open(path):
    """Operations of a Keras file that ask where it is read for the layout."""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    open_layouts, waiting = [], [config]
    while waiting:
        part = waiting.pop()
        waiting += part.values() if isinstance(part, dict) else part
        if isinstance(part, dict) and part.get("data_format", "said") is None:
            open_layouts.append(part["name"])
        waiting = [inner for inner in waiting if isinstance(inner, (dict, list))]
    return open_layouts


def test_file_of_a_converted_network_says_every_layout_itself(build, tmp_path, all_settings):
    """Plain Keras reads it, under whatever its user has set."""
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["r"], mode="linear"),
        helper.make_node("AveragePool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("DepthToSpace", ["p"], ["d"], blocksize=2),
        helper.make_node("SpaceToDepth", ["d"], ["s"], blocksize=2),
        helper.make_node("GlobalAveragePool", ["s"], ["g"]),
    ]
    scales = np.array([1, 1, 2, 2], np.float32)
    onnx.save(build(nodes, (4, 8, 8), {"scales": scales}), tmp_path / "n.onnx")
    model = teachers.from_onnx(tmp_path / "n.onnx")
    model.save(tmp_path / "n.keras")
    assert layouts_left_open(tmp_path / "n.keras") == []
    images = np.random.default_rng(0).random((2, 8, 8, 4), np.float32)
    with all_settings():
        received = keras.saving.load_model(tmp_path / "n.keras")(images)
    np.testing.assert_allclose(received, model(images), rtol=0, atol=1e-6)


def test_search_for_open_layouts_finds_one(tmp_path):
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, keras.ops.image.rgb_to_grayscale(images))
    model.save(tmp_path / "n.keras")
    assert len(layouts_left_open(tmp_path / "n.keras")) == 1

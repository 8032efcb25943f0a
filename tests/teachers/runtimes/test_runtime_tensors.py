"""Which axis of a runtime's tensor is which, and whose image a row belongs to."""

import numpy as np
import onnx
import pytest
from onnx import helper

import keras_amalgam as ka
from keras_amalgam import teachers

CLASSES = ["a", "b", "c", "d", "e"]
NORMAL = ka.Preprocessing(mean=0.5, std=0.5)


def integers(*values):
    return np.array(values, np.int64)


def conv(random):
    return helper.make_node("Conv", ["x", "k"], ["c"], pads=[1] * 4), {"k": random(16, 3, 3, 3)}


def head(features, random, axes):
    nodes = [
        helper.make_node("ReduceMean", [features], ["m"], axes=axes, keepdims=0),
        helper.make_node("MatMul", ["m", "d"], ["y"]),
    ]
    return nodes, {"d": random(16, 5)}


@pytest.fixture
def save(build, tmp_path):
    """Write a network of a convolution, some nodes and a head."""

    def run(random, nodes, features, image, axes=(1, 2), constants=None, **options):
        first, kernel = conv(random)
        last, matrix = head(features, random, list(axes))
        constants = {**kernel, **matrix, **(constants or {})}
        path = tmp_path / "n.onnx"
        onnx.save(build([first, *nodes, *last], image, constants, **options), path)
        return path

    return run


def windows(random, save):
    """Four images at a time, each in four windows of 16 tokens, laid out in the batch."""
    nodes = [
        helper.make_node("Reshape", ["c", "s1"], ["r1"]),
        helper.make_node("Transpose", ["r1"], ["t1"], perm=[0, 2, 1]),
        helper.make_node("Reshape", ["t1", "s2"], ["w"]),
        helper.make_node("Relu", ["w"], ["tap"]),
        helper.make_node("Reshape", ["tap", "s3"], ["b"]),
    ]
    shapes = {"s1": integers(4, 16, 64), "s2": integers(16, 16, 16), "s3": integers(4, 64, 16)}
    return save(random, nodes, "b", (3, 8, 8), (1,), shapes, batch=4)


def test_tensor_without_the_batch_in_front_is_refused_where_batches_are_joined(save, random):
    runtime = teachers.open_runtime(windows(random, save), taps=["tap"])
    with pytest.raises(ValueError, match=r"not the batch.*\(16, 16, 16\) for 4 images"):
        runtime.run(random(2, 8, 8, 3))
    with pytest.raises(RuntimeError, match="first axis of a tensor of it is not the batch"):
        teachers.runtime_teacher(
            windows(random, save), "t", CLASSES, preprocessing=NORMAL, tap="tap"
        )


def regrouped(random, save):
    """A channels-last map in windows and back, added to itself."""
    nodes = [
        helper.make_node("Transpose", ["c"], ["n0"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["n0", "s6"], ["w0"]),
        helper.make_node("Transpose", ["w0"], ["w1"], perm=[0, 1, 3, 2, 4, 5]),
        helper.make_node("Relu", ["w1"], ["w2"]),
        helper.make_node("Transpose", ["w2"], ["w3"], perm=[0, 1, 3, 2, 4, 5]),
        helper.make_node("Reshape", ["w3", "s4"], ["n1"]),
        helper.make_node("Add", ["n1", "n0"], ["n2"]),
    ]
    shapes = {"s6": integers(-1, 2, 4, 1, 4, 16), "s4": integers(-1, 8, 4, 16)}
    return save(random, nodes, "n2", (3, 8, 4), constants=shapes)


@pytest.mark.parametrize("tap", ["n1", "n2"])  # The first is told by the conversion alone.
def test_map_behind_regrouped_windows_is_delivered_as_after_a_conversion(tap, save, random):
    path = regrouped(random, save)
    images = random(2, 8, 4, 3, low=0, high=255)
    converted = ka.Teacher(teachers.from_onnx(path), "t", CLASSES, tap=tap, preprocessing=NORMAL)
    expected = converted.signals(3)(images)["features"]["features"]
    runtime = teachers.runtime_teacher(path, "t", CLASSES, tap=tap, preprocessing=NORMAL)
    received = runtime.signals(3)(images)["features"]["features"]
    assert received.shape == (2, 8, 4, 16)
    np.testing.assert_allclose(received, expected, atol=1e-4)


def test_map_of_exchanged_height_and_width_is_delivered_upright(save, random):
    nodes = [
        helper.make_node("Transpose", ["c"], ["n0"], perm=[0, 2, 3, 1]),
        helper.make_node("Transpose", ["n0"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Relu", ["t"], ["turned"]),
        helper.make_node("Relu", ["n0"], ["upright"]),
    ]
    path = save(random, nodes, "turned", (3, 8, 6))
    model = onnx.load(path)
    shape = ["batch", 8, 6, 16]
    upright = helper.make_tensor_value_info("upright", onnx.TensorProto.FLOAT, shape)
    model.graph.output.append(upright)
    onnx.save(model, path)
    taps = ["turned", "upright"]
    got = teachers.open_runtime(path, taps=taps, output_name="y").run(random(2, 8, 6, 3))
    assert got["turned"].shape == (2, 8, 6, 16)
    np.testing.assert_array_equal(got["turned"], got["upright"])


def test_map_whose_axes_nothing_tells_is_refused(save, random):
    """Regrouped, in a file that does not convert."""
    path = regrouped(random, save)
    model = onnx.load(path)
    relu = next(node for node in model.graph.node if node.output[0] == "w2")
    relu.op_type, relu.domain = "Binarizer", "ai.onnx.ml"
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    onnx.save(model, path)
    runtime = teachers.open_runtime(path, taps=["n1"])
    with pytest.raises(ValueError, match="cannot be told which axes of 'n1'"):
        runtime.run(random(1, 8, 4, 3))
    runtime = teachers.open_runtime(path, taps=["n2"])  # Of the axes of the map it is added to.
    assert runtime.run(random(1, 8, 4, 3))["n2"].shape == (1, 8, 4, 16)


def test_product_with_weights_keeps_the_axes_of_a_channels_last_map(save, random):
    nodes = [
        helper.make_node("Transpose", ["c"], ["n0"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["n0", "w"], ["wide"]),
        helper.make_node("Transpose", ["wide"], ["first"], perm=[0, 3, 1, 2]),
    ]
    path = save(random, nodes, "first", (3, 8, 6), (2, 3), {"w": random(16, 16, seed=4)})
    got = teachers.open_runtime(path, taps=["wide", "first"]).run(random(2, 8, 6, 3))
    assert got["wide"].shape == (2, 8, 6, 16)
    np.testing.assert_array_equal(got["wide"], got["first"])


def test_file_behind_a_link_without_a_suffix_is_opened_by_the_name_given(network, tmp_path, random):
    """As in the cache of Hugging Face."""
    onnx.save(network, tmp_path / "3fa9c0de")
    (tmp_path / "snapshot").mkdir()
    link = tmp_path / "snapshot" / "model.onnx"
    link.symlink_to("../3fa9c0de")
    runtime = teachers.open_runtime(link)
    assert runtime.run(random(2, 9, 8, 3))["y"].shape == (2, 5)
    teacher = ka.RuntimeTeacher(runtime, "t", CLASSES, preprocessing=NORMAL)
    teacher.save(tmp_path / "saved")
    assert [f.name for f in (tmp_path / "saved" / "network").iterdir()] == ["model.onnx"]
    assert teachers.load(tmp_path / "saved").fingerprint() == teacher.fingerprint()


def test_linked_weights_are_saved_under_the_name_that_the_file_looks_for(network, tmp_path, random):
    path = tmp_path / "in" / "m.onnx"
    path.parent.mkdir()
    onnx.save(network, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    path.with_name("w.bin").rename(path.with_name("real.bin"))
    path.with_name("w.bin").symlink_to("real.bin")
    teacher = teachers.runtime_teacher(path, "t", CLASSES, preprocessing=NORMAL)
    teacher.save(tmp_path / "saved")
    again = teachers.load(tmp_path / "saved")
    images = random(2, 9, 8, 3, low=0, high=255)
    expected = teacher.answers(3)(images)[teacher.name]
    np.testing.assert_array_equal(again.answers(3)(images)[again.name], expected)
    assert again.provenance.sha256 == teachers.inspect(path).sha256
    assert not (tmp_path / "saved" / "network" / "w.bin").is_symlink()

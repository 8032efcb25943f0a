"""The everyday command with a teacher that could not be converted beside one that was."""

import json

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import keras_amalgam as ka
from keras_amalgam import teachers
from keras_amalgam.cli.main import main

COLOURS = ("red", "green", "blue")


def write_images(folder, count, channel):
    folder.mkdir(parents=True)
    for number in range(count):
        image = np.random.default_rng(number).integers(0, 100, (20, 20, 3))
        image[..., channel] += 100
        Image.fromarray(image.astype("uint8")).save(folder / f"{number}.png")


def write_network(path):
    """The mean of each channel, through an operator that nobody converts."""
    nodes = [
        helper.make_node("Scaler", ["x"], ["m"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0]),
        helper.make_node("ReduceMean", ["m"], ["p"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["p", "w"], ["y"]),
    ]
    weights = numpy_helper.from_array(10 * np.eye(3, dtype="float32"), "w")
    value = helper.make_tensor_value_info
    image, answer = value("x", TensorProto.FLOAT, ["n", 3, 16, 16]), value("y", 1, ["n", 3])
    graph = helper.make_graph(nodes, "colours", [image], [answer], [weights])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


@pytest.mark.slow
def test_command_takes_both_kinds_of_teachers(tmp_path, capsys):
    write_network(tmp_path / "colours.onnx")
    plain = ka.Preprocessing(size=(16, 16))
    with pytest.raises(NotImplementedError):
        teachers.from_onnx(tmp_path / "colours.onnx")
    teachers.runtime_teacher(
        tmp_path / "colours.onnx", "colours", COLOURS, preprocessing=plain
    ).save(tmp_path / "colours")
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(inputs))
    ka.Teacher(
        keras.Model(inputs, keras.layers.Dense(2)(x)), "shapes", ["a", "b"], preprocessing=plain
    ).save(tmp_path / "shapes")
    for channel, name in enumerate(COLOURS):
        write_images(tmp_path / "test" / name, 2, channel)
    for number, name in enumerate("ab"):
        write_images(tmp_path / "shapes_test" / name, 2, number)
    write_images(tmp_path / "photos", 8, 0)
    code = main(
        ["amalgamate", f"--teacher={tmp_path / 'colours'}", f"--teacher={tmp_path / 'shapes'}",
         f"--images={tmp_path / 'photos'}", f"--test=colours={tmp_path / 'test'}",
         f"--test=shapes={tmp_path / 'shapes_test'}", f"--out={tmp_path / 'out'}",
         "--size=16", "--epochs=1", "--batch_size=4"]
    )  # fmt: skip
    said = capsys.readouterr()
    assert code == 0, said.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["tasks"]["colours"]["teacher_own_pipeline_accuracy"] == 1.0
    original = (tmp_path / "colours.onnx").stat().st_size
    converted = (tmp_path / "shapes" / "model.keras").stat().st_size
    assert report["teachers"]["bytes"] == original + converted
    assert report["teachers"]["latency_ms"] > 0

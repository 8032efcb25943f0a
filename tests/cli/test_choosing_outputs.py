"""Networks with several outputs on the command line: one is chosen by name, or asked for."""

import json
import pathlib

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import helper, numpy_helper

from keras_amalgam import teachers
from keras_amalgam.cli.main import main
from keras_amalgam.models.heads import CANNOT_TELL


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The working directory, with a file of five classes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "five.txt").write_text("a\nb\nc\nd\ne\n")


def onnx_file(operator="Flatten"):
    """Two maps on the way to two vectors: `feat`, and `logits` of half the extent."""

    def weight(name, *shape, seed):
        numbers = np.random.default_rng(seed).uniform(-1, 1, shape)
        return numpy_helper.from_array(numbers.astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="early"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="body", strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["r2"], name="late"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Identity", ["f"], ["feat"], name="shown"),
        helper.make_node("Gemm", ["f", "w3"], ["logits"], name="head"),
        helper.make_node("GlobalAveragePool", ["r1"], ["q"], name="early_pool"),
        helper.make_node(operator, ["q"], ["early_flat"], name="early_flat"),
        helper.make_node("Gemm", ["early_flat", "w4"], ["aux/5"], name="aux"),
    ]
    if operator != "Flatten":
        nodes[-2].domain = "com.kitchen"
    weights = [weight("w1", 4, 3, 3, 3, seed=1), weight("w2", 6, 4, 3, 3, seed=2)]
    weights += [weight("w3", 6, 5, seed=3), weight("w4", 4, 5, seed=4)]
    ports = {"x": ["n", 3, 16, 16], "feat": ["n", 6], "aux/5": ["n", 5], "logits": ["n", 5]}
    info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in ports.items()]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.kitchen", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), "two.onnx")
    return "two.onnx"


def keras_model():
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.ReLU(name="map")(keras.layers.Conv2D(4, 3)(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    made = {"z": keras.layers.Dense(5, name="z")(x), "a": keras.layers.Dense(7, name="a")(x)}
    return keras.Model(image, made)


def keras_file():
    keras_model().save("two.keras")
    return "two.keras"


def saved_model():
    keras_model().export("two", verbose=False)
    return "two"


def tflite_file():
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model())
    pathlib.Path("two.tflite").write_bytes(converter.convert())
    return "two.tflite"


def convert(path, *flags):
    given = ["--classes", "five.txt", "--name", "shapes", "--out", "out", "--scale", "0.01"]
    return main(["convert", path, *given, *flags])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "output", "tap", "flags"),
    [
        (onnx_file, "logits", "late", ()),
        (onnx_file, "aux/5", "early", ()),
        (keras_file, "z", "map", ()),
        (saved_model, "z", "map", ()),
        (lambda: onnx_file("Gelatine"), "logits", "late", ()),
    ],
)
def test_chosen_output_becomes_the_teacher_with_its_own_default_tap(make, output, tap, flags):
    path = make()
    assert convert(path, "--output", output, *flags) == 0
    card = json.loads(pathlib.Path("out/card.json").read_text())
    assert card["provenance"]["output"] == output and tap in card["taps"]["features"]["layer"]
    report = json.loads(pathlib.Path("out/parity.json").read_text())
    assert report["passed"] and list(report["outputs"]) == [output] and report["taps"]
    assert teachers.load("out").model.output_shape == (None, 5)


@pytest.mark.matrix
@pytest.mark.parametrize(("make", "output"), [(tflite_file, "z"), (saved_model, "z")])
def test_chosen_output_teaches_in_its_runtime(make, output, monkeypatch):
    path = make()

    def refuse(*args, **kwargs):
        raise NotImplementedError("It is not to be converted.")

    monkeypatch.setattr(teachers, "from_saved_model", refuse)
    assert convert(path, "--runtime", "--output", output) == 0
    card = json.loads(pathlib.Path("out/card.json").read_text())
    assert card["runtime"]["output_name"] == output
    assert teachers.load("out").model.output_shape == (None, 5)


@pytest.mark.parametrize(
    ("make", "flags", "said"),
    [
        (onnx_file, (), "--output is needed: two.onnx has 3 outputs"),
        (onnx_file, (), "feat (?, 6), aux/5 (?, 5), logits (?, 5). Say --output=NAME"),
        (keras_file, (), "z (?, 5), a (?, 7). Say --output=NAME"),
        (tflite_file, ("--runtime",), "as --output"),
        (onnx_file, ("--output", "y"), "['feat', 'aux/5', 'logits']. Pass one of them as --output"),
    ],
)
def test_output_that_is_not_said_or_not_there_is_asked_for_by_name(make, flags, said, capsys):
    assert convert(make(), *flags) != 0
    assert said in capsys.readouterr().err
    assert not pathlib.Path("out").exists()


@pytest.mark.matrix
@pytest.mark.parametrize("make", [onnx_file, keras_file, saved_model, tflite_file])
def test_inspect_taps_nothing_until_an_output_is_chosen(make, capsys):
    path = make()
    assert main(["inspect", path]) == 0
    said = capsys.readouterr().out
    assert "tapped if nothing is said" not in said
    assert f"keras-amalgam inspect {path} --output NAME" in said
    assert said.rstrip().endswith("--output NAME")
    output = "logits" if path.endswith(".onnx") else "z"
    assert main(["inspect", path, "--output", output]) == 0
    said = capsys.readouterr().out
    assert "* is tapped if nothing is said" in said and f"--output {output}" in said
    assert main(["inspect", path, "--output", "q"]) == 1
    assert "has no output 'q'" in capsys.readouterr().err


def test_inspect_says_which_of_the_outputs_may_be_the_answer():
    found = teachers.inspect(onnx_file())
    assert {t.name: t.note for t in found.outputs} == {
        "feat": "", "aux/5": CANNOT_TELL, "logits": CANNOT_TELL,
    }  # fmt: skip
    assert found.must_choose and found.default_tap is None
    chosen = teachers.inspect("two.onnx", output="aux/5")
    assert not chosen.must_choose and chosen.default_tap.name == "early"
    assert [t.name for t in chosen.outputs] == ["feat", "aux/5", "logits"]
    assert chosen.nodes == 5


def test_inspect_judges_the_chosen_part_alone(capsys):
    path = onnx_file("Gelatine")
    assert main(["inspect", path]) == 0
    assert "As a whole it cannot be converted" in capsys.readouterr().out
    assert teachers.inspect(path, output="logits").obstacle == ""
    assert "Gelatine" in teachers.inspect(path, output="aux/5").obstacle

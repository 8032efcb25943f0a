"""`keras-amalgam inspect`: a page for people, JSON for machines."""

import inspect
import json
import pathlib
import shlex

import keras
import numpy as np
import pytest
from onnx import helper
from PIL import Image

import keras_amalgam as ka
from keras_amalgam import teachers
from keras_amalgam.cli.main import main
from keras_amalgam.cli.screen import columns

DIGITS = pathlib.Path(ka.__file__).parent / "data" / "demo" / "teachers" / "digits.onnx"

PAGE = """\
digits.onnx
  format         ONNX, opset 20, written by pytorch 2.13.0+cpu
  size           963 kB, 232,698 parameters, 27 nodes
  sha256         2296bc720fcd7f6823e096ece4d4f6de112dad2e64f8f72f7b7a7cd308252e82
  preprocessing  none was found inside
  converts       yes

  input   shape           type     layout
  images  (?, 1, 28, 28)  float32  channels first

  output  shape    type     seems to be
  logits  (?, 10)  float32  logits or numbers, cannot tell

  operator    count  converts  first node
  Conv           11  yes       node_Conv_166
  Relu            9  yes       node_relu
  Add             4  yes       node_add_60
  Gemm            1  yes       node_linear
  ReduceMean      1  yes       node_mean
  Reshape         1  yes       node_Reshape_189

  tap               shape            kind    operator
  node_relu         (?, 28, 28, 16)  map     Relu
  layer1            (?, 14, 14, 32)  map     Relu
* layer2            (?, 7, 7, 80)    map     Relu
  node_Reshape_189  (?, 80)          vector  Reshape
* is tapped if nothing is said
"""


def test_page_is_aligned_and_whole(capsys):
    assert main(["inspect", str(DIGITS)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(PAGE)
    assert f"keras-amalgam convert {DIGITS} --out FOLDER" in said


CAFFE = np.float32([103.939, 116.779, 123.68])
PREPARED = {
    "preprocess_input": (
        keras.applications.mobilenet_v2.preprocess_input,
        "built in: pixels / 127.5 - 1",
        "images in 0..255",
        "",
        ka.Preprocessing(size=(16, 16), scale=1.0),
    ),
    "0..1": (
        lambda x: (x - 0.5) / 0.25,
        "built in: (pixels - 0.5) / 0.25",
        "images in 0..1",
        "",
        ka.Preprocessing(size=(16, 16)),
    ),
    "caffe": (
        lambda x: x[..., ::-1] - CAFFE,
        "built in: BGR: pixels - (103.939, 116.779, 123.68)",
        "images in 0..255",
        "",
        ka.Preprocessing(size=(16, 16), scale=1.0),
    ),
    "images of OpenCV": (
        lambda x: x - CAFFE,
        "built in: pixels - (103.939, 116.779, 123.68)",
        "images in 0..255 in the order blue, green, red",
        " --scale 1 --channels bgr",
        ka.Preprocessing(size=(16, 16), scale=1.0, channels="bgr"),
    ),
    "none": (lambda x: x, "none was found inside", None, " --mean … --std …", None),
    "branches": (
        lambda x: keras.layers.Concatenate()([keras.layers.Conv2D(2, 1)(x / 255), x]),
        "built in, in several ways that no mean and std describes: pixels; pixels / 255",
        "images in 0..255",
        "",
        ka.Preprocessing(size=(16, 16), scale=1.0),
    ),
    "branches of an unknown range": (
        lambda x: keras.layers.Concatenate()([keras.layers.Conv2D(2, 1)(x + 0.1), x]),
        "built in, in several ways that no mean and std describes: pixels; pixels + 0.1",
        None,
        " --scale …",
        None,
    ),
    "colours only": (
        lambda x: x[..., ::-1], "built in: BGR: pixels", None, " --mean … --std …", None,
    ),
}  # fmt: skip


@pytest.mark.matrix
@pytest.mark.parametrize("what", PREPARED)
def test_built_in_normalisation_is_said_in_numbers_and_the_advised_command_fits(
    what, tmp_path, capsys, monkeypatch
):
    prepare, says, takes, flags, preprocessing = PREPARED[what]
    monkeypatch.chdir(tmp_path)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3)(prepare(inputs))
    outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(inputs, outputs).save("my n.keras")
    assert main(["inspect", "my n.keras"]) == 0
    page = capsys.readouterr().out.splitlines()
    assert f"  preprocessing  {says}" in page
    assert [line for line in page if line.startswith("  takes  ")] == (
        [f"  takes          {takes}"] if takes else []
    )
    command = "  keras-amalgam convert 'my n.keras' --out FOLDER --name NAME --classes FILE" + flags
    assert command in page
    if preprocessing is not None:
        pathlib.Path("FILE").write_text("cat\ndog\n")
        assert main([*shlex.split(command)[1:], "--outputs", "logits"]) == 0
        assert ka.Teacher.load("FOLDER").preprocessing == preprocessing


def test_json_gives_the_numbers_of_what_is_built_in(tmp_path, capsys):
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(2, 3)]
    )
    model.save(tmp_path / "n.keras")
    assert main(["inspect", "--json", str(tmp_path / "n.keras")]) == 0
    built_in = json.loads(capsys.readouterr().out)["built_in"]
    np.testing.assert_allclose(built_in.pop("std"), 255, rtol=1e-5)
    assert built_in == {
        "does": "pixels / 255",
        "expects": "0..255",
        "mean": [0, 0, 0],
        "order": [0, 1, 2],
        "learned": False,
    }


def test_json_is_for_machines(capsys):
    assert main(["inspect", "--json", str(DIGITS)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["nodes"] == 27 and found["obstacle"] == ""
    assert [tap["name"] for tap in found["taps"] if tap["is_default"]] == ["node_relu_8"]


def test_what_cannot_be_converted_says_why_and_how_it_can_teach(tmp_path, capsys):
    import onnx

    model = onnx.load(DIGITS)
    relu = next(node for node in model.graph.node if node.name == "node_relu_4")
    relu.op_type, relu.domain = "Gelatine", "com.kitchen"
    model.opset_import.append(helper.make_opsetid("com.kitchen", 2))
    onnx.save(model, tmp_path / "n.onnx")
    assert main(["inspect", str(tmp_path / "n.onnx")]) == 0
    said = capsys.readouterr().out
    assert "converts       no, see below" in said
    lines = said.splitlines()
    row = next(line for line in lines if "com.kitchen.Gelatine" in line)
    assert row.split() == ["com.kitchen.Gelatine", "1", "NO", "node_relu_4"]
    assert "domain com.kitchen, opset 2, node 'node_relu_4'" in " ".join(said.split())
    assert "run by onnxruntime outside of the training step" in said
    assert any(line.startswith("* layer2") for line in lines)


def long_named():
    """Names as a converter makes them of nested scopes, and an activation fused into one tensor."""
    scope = (
        "a_scope_with_a_name_as_long_as_those_of_real_networks_are_with_another_one_inside_of_it"
    )
    image = keras.Input((16, 16, 3), name=f"{scope}_image")
    x = image
    for number in range(2):
        x = keras.layers.Conv2D(4, 3, use_bias=False, name=f"{scope}_conv_{number}")(x)
        x = keras.layers.BatchNormalization(name=f"{scope}_bn_{number}")(x)
        x = keras.layers.ReLU(name=f"{scope}_relu_{number}")(x)
    x = keras.layers.GlobalAveragePooling2D(name=f"{scope}_pooled")(x)
    return keras.Model(image, keras.layers.Dense(5, name=f"{scope}_answer")(x))


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["n.tflite", "n.keras", "n"])
def test_page_keeps_to_the_screens_width_whatever_names_are_in_the_file(
    name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    if name.endswith(".keras"):
        long_named().save(name)
    else:
        form = {"format": "litert"} if name.endswith(".tflite") else {}
        long_named().export(name, **form, verbose=False)
    capsys.readouterr()
    assert main(["inspect", name]) == 0
    said = capsys.readouterr().out
    wide = [line for line in said.splitlines() if len(line) > 100]
    assert all(line.startswith("  keras-amalgam convert ") for line in wide)  # To be copied.
    assert "Names that begin with … are cut in front: --json shows them whole." in said
    (default,) = [line for line in said.splitlines() if line.startswith("* …")]
    assert default.split()[-2:] == ["map", {"n.tflite": "CONV_2D"}.get(name, default.split()[-1])]
    assert main(["inspect", "--json", name]) == 0
    assert "…" not in capsys.readouterr().out


def test_tflite_tap_of_fused_operations_goes_by_one_of_their_names(tmp_path):
    """The name that inspect shows is one that the runtime taps, and means that tensor."""
    long_named().export(tmp_path / "n.tflite", format="litert", verbose=False)
    found = teachers.inspect(tmp_path / "n.tflite")
    fused = [tap for tap in found.taps if ";" in tap.name]
    assert fused and all(tap.module and ";" not in tap.module for tap in fused)
    names = [name for tap in fused for name in (tap.name, tap.module)]
    runtime = teachers.open_runtime(tmp_path / "n.tflite", taps=names)
    images = np.random.default_rng(0).normal(size=(1, 16, 16, 3)).astype("float32")
    got = runtime.run(images)
    for tap in fused:
        np.testing.assert_array_equal(got[tap.module], got[tap.name])


@pytest.mark.parametrize("width", [101, 140, 400])
def test_columns_shorten_the_widest_names_alone(width):
    rows = [("tap", "shape", "kind"), ("n" * width, "(?, 7, 7, 80)", "map"), ("x", "(?, 80)", "v")]
    first, second, third = columns(rows).splitlines()
    assert len(first) == 100 and second.startswith("  …nnn") and second.endswith("  map")
    assert second.index("(?, 7") == first.index("shape") == third.index("(?, 80)")
    assert columns(rows[::2]).splitlines() == ["  tap  shape    kind", "  x    (?, 80)  v"]


def test_a_damaged_file_is_no_usage_error(tmp_path, capsys):
    (tmp_path / "n.onnx").write_bytes(DIGITS.read_bytes()[:1000])
    assert main(["inspect", str(tmp_path / "n.onnx")]) == 1
    assert "cut off or is no ONNX file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["inspect"])
def test_the_commands_module_hides_no_module_of_the_standard_library(name):
    assert pathlib.Path(inspect.__file__).parent != pathlib.Path(main.__code__.co_filename).parent
    assert not (pathlib.Path(main.__code__.co_filename).parent / f"{name}.py").exists()


def write_images(folder, images):
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")


def test_photographs_tell_the_normalisation_of_the_training(make, tmp_path, capsys):
    imagenet = ka.Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    make.remembering_network(make.colour_images(seed=1), imagenet).save(tmp_path / "n.keras")
    write_images(tmp_path / "photos", make.colour_images(seed=2))
    command = ["inspect", str(tmp_path / "n.keras"), "--images", str(tmp_path / "photos")]
    assert main(command) == 0
    said = capsys.readouterr().out
    flags = "--mean=0.485,0.456,0.406 --std=0.229,0.224,0.225"
    assert f"ImageNet's mean and std fits clearly: {flags}" in said
    assert main([*command, "--json"]) == 0
    usual = json.loads(capsys.readouterr().out)["normalization"]["usual"]
    assert next(iter(usual)) == "ImageNet's mean and std" and len(usual) == 5


@pytest.mark.slow
def test_without_running_statistics_it_says_that_photographs_tell_nothing(make, tmp_path, capsys):
    write_images(tmp_path / "photos", make.colour_images())
    assert main(["inspect", str(DIGITS), "--images", str(tmp_path / "photos")]) == 0
    said = capsys.readouterr().out
    assert "trained with cannot be told: it has no batch normalization" in said
    assert main(["inspect", str(DIGITS), "--images", str(tmp_path / "nowhere")]) == 2
    assert "--images must be a folder." in capsys.readouterr().err


@pytest.mark.slow
def test_photographs_are_shown_to_the_chosen_one_of_several_outputs(make, tmp_path, capsys):
    pool = make.colour_images(seed=1, size=32)
    whole = make.remembering_network(pool, ka.Preprocessing(mean=0.5, std=0.5))
    two = keras.Model(whole.input, {"map": whole.get_layer("map").output, "logits": whole.output})
    two.save(tmp_path / "two.keras")
    write_images(tmp_path / "photos", make.colour_images(seed=2, size=32))
    command = ["inspect", str(tmp_path / "two.keras"), "--images", str(tmp_path / "photos")]
    assert main(command) == 0
    assert "cannot be told: --output is to be chosen" in capsys.readouterr().out
    assert main([*command, "--output", "logits"]) == 0
    assert "A range of -1..1 fits clearly: --mean=0.5 --std=0.5" in capsys.readouterr().out

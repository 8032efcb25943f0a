"""`keras-amalgam inspect`: a page for people, JSON for machines."""

import inspect
import json
import pathlib

import keras
import pytest
from onnx import helper
from PIL import Image

import keras_amalgam as ka
from keras_amalgam.cli.main import main

DIGITS = pathlib.Path(ka.__file__).parent / "data" / "demo" / "teachers" / "digits.onnx"

PAGE = """\
digits.onnx
  format         ONNX, opset 20, written by pytorch 2.13.0+cpu
  size           963 kB, 232,698 parameters, 27 nodes
  sha256         2296bc720fcd7f6823e096ece4d4f6de112dad2e64f8f72f7b7a7cd308252e82
  preprocessing  none is built in
  converts       yes

  input   shape           type     layout
  images  (?, 1, 28, 28)  float32  channels first

  output  shape    type     seems to be
  logits  (?, 10)  float32  logits

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


def test_without_running_statistics_it_says_that_photographs_tell_nothing(make, tmp_path, capsys):
    write_images(tmp_path / "photos", make.colour_images())
    assert main(["inspect", str(DIGITS), "--images", str(tmp_path / "photos")]) == 0
    said = capsys.readouterr().out
    assert "trained with cannot be told: it has no batch normalization" in said
    assert main(["inspect", str(DIGITS), "--images", str(tmp_path / "nowhere")]) == 2
    assert "There is no folder" in capsys.readouterr().err


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

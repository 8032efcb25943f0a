"""What the library advises, said in the command line's flags."""

import pathlib

import onnx
import pytest
from onnx import helper

import keras_amalgam as ka
from keras_amalgam.cli import advice
from keras_amalgam.cli.advice import in_flags
from keras_amalgam.cli.main import main

DIGITS = pathlib.Path(ka.__file__).parent / "data" / "demo" / "teachers" / "digits.onnx"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The working directory, with a file of ten classes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ten.txt").write_text("\n".join(map(str, range(10))) + "\n")


def test_inspect_advises_convert_in_flags(capsys):
    ports = (("x", ["batch", 3, "height", "width"]), ("y", ["batch", "pixels"]))
    given, made = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in ports)
    graph = helper.make_graph([helper.make_node("Flatten", ["x"], ["y"])], "g", [given], [made])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), "open.onnx")
    assert main(["inspect", "open.onnx"]) == 0
    assert "--input_shape=HEIGHT,WIDTH,CHANNELS" in " ".join(capsys.readouterr().out.split())


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--tap", "layr2"), "Did you mean 'layer2'"),
        (("--tap", "layr2"), "All of them: keras-amalgam inspect FILE"),
        (("--size", "32"), "of input shape (None, 28, 28, 1). Set --size=28,28"),
        (("--outputs", "probabilities"), "Received: --outputs=probabilities. Say --outputs=auto"),
        (("--input_shape", "30,30,1"), "--input_shape does not fit the file"),
    ],
)
def test_advice_is_given_in_flags(flags, said, capsys):
    given = ["--classes", "ten.txt", "--name", "digits", "--out", "out"]
    normalised = ["--mean", "0.1307", "--std", "0.3081"]
    assert main(["convert", str(DIGITS), *given, *normalised, *flags]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "`" not in error and "keras_amalgam." not in error


def test_advice_of_runs_is_given_in_flags():
    table = advice.AMALGAMATE + advice.RUN
    said = (
        "`student='a b'`, `weights='none'`, `size=(32, 24)`, `batch_size=7`, `batch_size`, `only`"
    )
    assert in_flags(said, table) == (
        "--student=a b, --weights=none, --size=32,24, --batch_size=7, --batch_size, --only"
    )
    said = "Received: `temperature=3.0`. Leave `temperature` out, or choose another `method`."
    assert in_flags(said, table) == (
        "Received: --temperature=3.0. Leave --temperature out, or choose another --method."
    )
    said = "Begin anew in another folder: begin anew in another folder, or `restart=True`."
    assert in_flags(said, table) == (
        "Begin anew in another --out: begin anew with --restart or in another --out, or --restart."
    )


def test_advice_for_differences_and_open_sizes_is_given_in_flags():
    assert in_flags("pass a larger `tolerance=`; convert with `verify=False`.") == (
        "pass a larger --tolerance; convert with --allow_difference."
    )
    advised = "Pass `input_shape=(height, width, channels)`."
    assert in_flags(advised) == "Pass --input_shape=HEIGHT,WIDTH,CHANNELS."

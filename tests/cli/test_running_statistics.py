"""`keras-amalgam convert --images` says whether they are normalised as in the training."""

import json
import pathlib
import subprocess
import sys

import pytest
from PIL import Image

import keras_amalgam as ka
from keras_amalgam.cli.main import main

DIGITS = pathlib.Path(ka.__file__).parent / "data" / "demo" / "teachers" / "digits.onnx"
MEAN, STD = "0.485,0.456,0.406", "0.229,0.224,0.225"


@pytest.fixture(autouse=True)
def here(make, tmp_path, monkeypatch):
    """The working directory: a network trained on ImageNet's numbers, photographs, classes."""
    monkeypatch.chdir(tmp_path)
    imagenet = ka.Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    make.remembering_network(make.colour_images(seed=1), imagenet).save("n.keras")
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(make.colour_images(seed=2)):
        Image.fromarray(image).save(tmp_path / "photos" / f"{number}.png")
    for number, file in ((3, "three.txt"), (10, "ten.txt")):
        (tmp_path / file).write_text("\n".join(map(str, range(number))))


def convert(path, classes, mean, std):
    command = ["convert", str(path), "--name", "cars", "--classes", classes, "--images", "photos"]
    return main([*command, "--mean", mean, "--std", std, "--out", "out", "--overwrite"])


def test_another_normalisation_is_printed_once_and_as_flags(capsys):
    assert convert("n.keras", "three.txt", "0.5", "0.5") == 0
    said = capsys.readouterr()
    assert said.out.count("Teacher 'cars' seems to be shown images normalised otherwise") == 1
    assert f"use --mean={MEAN} --std={STD}" in said.out
    assert "Warning" not in said.err


@pytest.mark.slow
def test_the_right_one_is_confirmed_and_kept_in_the_report(capsys):
    assert convert("n.keras", "three.txt", MEAN, STD) == 0
    assert "No usual normalisation fits the running statistics clearly better" in (
        capsys.readouterr().out
    )
    kept = json.loads(pathlib.Path("out", "parity.json").read_text())["normalization"]
    assert kept["images"] == 16 and kept["warning"] is None


@pytest.mark.slow
def test_it_says_where_nothing_can_be_told(capsys):
    assert convert(DIGITS, "ten.txt", "0.1307", "0.3081") == 0
    assert "cannot be told: it has no batch normalization" in capsys.readouterr().out


@pytest.mark.slow
def test_a_warning_is_a_sentence_without_a_place_in_our_code(capsys):
    pathlib.Path("photos", "gone.png").symlink_to("nowhere.png")
    code = subprocess.run(
        [sys.executable, "-m", "keras_amalgam", "inspect", "n.keras", "--images", "photos"],
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = code.stderr.splitlines()
    assert line.startswith("Warning: ") and "gone.png" in line and ".py" not in line

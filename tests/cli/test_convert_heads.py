"""`keras-amalgam convert` on heads that are no classifier's, or may not be."""

import json
import pathlib

import keras
import numpy as np
import pytest
from PIL import Image

from keras_amalgam import teachers
from keras_amalgam.cli.main import main


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The working directory, with files of classes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "three.txt").write_text("row\ncolumn\nsize\n")
    (tmp_path / "five.txt").write_text("a\nb\nc\nd\ne\n")


def convert(path, *flags, classes):
    given = ["--classes", classes, "--name", "digits", "--out", "out", *flags]
    return main(["convert", path, *map(str, given)])


@pytest.mark.slow
def test_images_are_taken_evenly_and_contradict_logits_of_one_sign(tmp_path, capsys):
    """Positions of something, of which the first folder alone would show one class."""
    for folder, brightest in (("a", 0), ("b", 1), ("c", 2)):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for number in range(32):
            pixels = np.random.default_rng(number).integers(0, 90, (16, 16, 3)).astype(np.uint8)
            pixels[..., brightest] += 100
            Image.fromarray(pixels).save(tmp_path / "photos" / folder / f"{number}.png")
    mean = keras.layers.GlobalAveragePooling2D()
    three = {"kernel_initializer": "identity", "name": "numbers"}
    image = keras.Input((16, 16, 3))
    for lift, says in ((-0.3, ""), (5, "all of its answers to 32 images are positive")):
        bias = keras.initializers.Constant(lift)
        head = keras.layers.Dense(3, bias_initializer=bias, **three)
        keras.Model(image, head(mean(image))).save("n.keras")
        given = ["--images", "photos", "--scale", 1 / 255, "--overwrite", "--tap", "none"]
        assert convert("n.keras", *given, classes="three.txt") == 0
        said = capsys.readouterr().out
        assert "Comparing on 32 of 96 images, evenly from first to last." in said
        assert ("Warning: Teacher 'digits' may not return logits" in said) is bool(says)
        assert says in said and ("make it with --outputs=logits" in said) is bool(says)
        images = json.loads(pathlib.Path("out/parity.json").read_text())["images"]
        assert {name[0] for name in images} == {"a", "b", "c"}
    assert convert("n.keras", *given, "--outputs", "logits", classes="three.txt") == 0
    assert "Warning" not in capsys.readouterr().out


def test_multi_label_head_is_refused_and_taken_where_one_class_holds(capsys):
    image = keras.Input((16, 16, 3))
    y = keras.layers.Dense(5, activation="sigmoid")(keras.layers.GlobalAveragePooling2D()(image))
    keras.Model(image, y).save("n.keras")
    given = ["--scale", 1, "--tap", "none"]
    assert convert("n.keras", *given, classes="five.txt") == 1
    said = capsys.readouterr().err
    assert "5 independent sigmoids: a multi-label head" in said
    assert "Received: --outputs=auto." in said and "Say --outputs=sigmoid if exactly one" in said
    assert not pathlib.Path("out").exists()
    assert convert("n.keras", *given, "--outputs", "sigmoid", classes="five.txt") == 0
    assert json.loads(pathlib.Path("out/card.json").read_text())["outputs"] == "sigmoid"
    assert teachers.load("out").returns == "sigmoid"

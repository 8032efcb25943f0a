"""On what the student was evaluated, as `keras-amalgam export` learns it."""

import json
import pathlib

import keras
import numpy as np
import pytest

from keras_amalgam import export
from keras_amalgam.cli.main import main

pytestmark = pytest.mark.usefixtures("verified_here")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The command in a folder with a student, as a run leaves it, and a photograph."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "photos").mkdir()
    image = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.ops.image.resize(image, (8, 8)))
    student = keras.Model(image, {"hue": keras.layers.Dense(2)(x)}, name="hues")
    export.to_keras(student, "run/hues.keras", class_names={"hue": ("red", "blue")})
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3))
    keras.utils.save_img("photos/0.png", photo, scale=False)

    def command(*flags):
        words = ["onnx", "run/hues.keras", "--images", "photos", "--out", "out", *flags]
        return main(["export", *words])

    return command


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("settings", "flags", "canvas"),
    [
        ({"canvas": [24, 20, "crop"]}, (), [24, 20, "crop"]),
        ({"canvas": [24, 20, "crop"]}, ("--canvas", "18,19"), [18, 19, "resize"]),
        ({"canvas": [24, 20, "crop"]}, ("--canvas", "18,19,pad"), [18, 19, "pad"]),
        ({"seed": 1}, (), None),
    ],
)
def test_canvas_is_the_flags_or_the_reports_beside_the_student(
    settings, flags, canvas, run, capsys
):
    pathlib.Path("run/report.json").write_text(json.dumps({"settings": settings}))
    assert run(*flags) == 0, capsys.readouterr().err
    document = json.loads(pathlib.Path("out/export.json").read_text())
    assert document["artifacts"]["hues.onnx"]["canvas"] == canvas


@pytest.mark.parametrize(
    ("canvas", "message"),
    [
        ("24,24,24", "--canvas wants HEIGHT,WIDTH or HEIGHT,WIDTH,METHOD"),
        ("24,0", "Received: 24,0."),
        ("24,24,squash", "one of resize, pad, crop. Received: 24,24,squash"),
    ],
)
def test_canvas_that_is_none_is_refused_before_any_work(canvas, message, run, capsys):
    assert run("--canvas", canvas) == 2
    assert message in capsys.readouterr().err
    assert not pathlib.Path("out").exists()

"""`keras-amalgam convert`: a compared teacher in a folder, or a word on why not."""

import functools
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

import keras_amalgam as ka
from keras_amalgam import teachers
from keras_amalgam.cli.main import main

DIGITS = pathlib.Path(ka.__file__).parent / "data" / "demo" / "teachers" / "digits.onnx"
NORMALISED = ("--mean", 0.1307, "--std", 0.3081)
FILES = ["card.json", "labels.txt", "model.keras", "parity.json"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The working directory, with a file of ten classes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ten.txt").write_text("\n".join(map(str, range(10))) + "\n")
    (tmp_path / "five.txt").write_text("a\nb\nc\nd\ne")
    return tmp_path


def convert(path=DIGITS, *flags, classes="ten.txt", name="digits", out="out"):
    given = ["--classes", classes, "--name", name, "--out", out, *flags]
    return main(["convert", str(path), *map(str, given)])


def written(folder="out"):
    return sorted(path.name for path in pathlib.Path(folder).iterdir())


def card(folder="out"):
    return json.loads(pathlib.Path(folder, "card.json").read_text())


def small_model(suffix=".keras", scaled=False):
    """A network of five classes in a file."""
    layers = [
        keras.Input((16, 16, 3)),
        *([keras.layers.Rescaling(1 / 255)] if scaled else []),
        keras.layers.Conv2D(4, 3, name="map"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(5, activation="softmax"),
    ]
    keras.Sequential(layers).save(f"small{suffix}")
    return f"small{suffix}"


def test_folder_is_a_teacher_with_provenance_and_parity(capsys):
    assert convert(DIGITS, *NORMALISED, "--license", "MIT") == 0
    said = capsys.readouterr().out
    assert "Tapped at node_relu_8, the end of layer2: map (?, 7, 7, 80), the default." in said
    assert written() == FILES and "Written to out: " + ", ".join(FILES) in said
    teacher = teachers.load("out")
    assert (teacher.name, teacher.tap.layer) == ("digits", "node_relu_8")
    assert teacher.preprocessing == ka.Preprocessing(size=(28, 28), mean=0.1307, std=0.3081)
    provenance = teacher.provenance
    assert provenance.source == "digits.onnx" and provenance.opset == 20
    assert provenance.sha256 == hashlib.sha256(DIGITS.read_bytes()).hexdigest()
    assert provenance.framework.startswith("pytorch") and provenance.license == "MIT"
    assert provenance.converter.startswith("keras-amalgam ")
    assert provenance.parity["passed"] and provenance.parity["images"] == 5
    report = json.loads(pathlib.Path("out/parity.json").read_text())
    assert report["passed"] and report["outputs"]["logits"]["max_abs_error"] < 1e-4
    assert teachers.check_teacher(teacher, DIGITS)["outputs"] == report["outputs"]


def test_folded_statistics_are_kept(tmp_path):
    model = onnx.load(DIGITS)
    reader = model.graph.node[1]
    norm = helper.make_node("BatchNormalization", [model.graph.node[0].output[0], *"somv"], ["n"])
    norm.name = "norm"
    reader.input[0] = "n"
    model.graph.node.insert(1, norm)
    for name, number in zip("somv", (1, 0, 0.25, 0.5), strict=True):
        model.graph.initializer.append(
            numpy_helper.from_array(np.full(16, number, np.float32), name)
        )
    onnx.save(model, "normed.onnx")
    assert convert("normed.onnx", *NORMALISED, "--fold_batch_norm") == 0
    assert written() == sorted([*FILES, "batch_norm.npz"])
    statistics = teachers.load("out").provenance.batch_norm
    assert statistics == {"norm": {"mean": [0.25] * 16, "variance": [0.5] * 16}}


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("flags", "tap"),
    [((), "node_relu_8"), (("--tap", "layer1"), "node_relu_4"), (("--tap", "none"), None)],
)
def test_tap_is_the_default_the_named_one_or_none(flags, tap):
    assert convert(DIGITS, *NORMALISED, *flags) == 0
    assert card()["taps"].get("features", {}).get("layer") == tap


@pytest.mark.parametrize("flags", [(), ("--runtime",)], ids=["converted", "runtime"])
def test_several_taps_have_names_and_are_compared(flags, capsys):
    taps = ("--tap", "mid=node_relu_4", "--tap", "top=node_relu_8")
    if flags:
        taps = ("--tap", "mid=relu_4", "--tap", "top=relu_8")
    assert convert(DIGITS, *NORMALISED, *taps, *flags) == 0, capsys.readouterr().err
    teacher = teachers.load("out")
    assert list(teacher.taps) == ["mid", "top"]
    report = json.loads(pathlib.Path("out/parity.json").read_text())
    assert len(report["taps"]) == 2 and report["passed"]


@pytest.mark.parametrize(
    "taps",
    [("layer1", "layer2"), ("mid=layer1", "mid=layer2"), ("default", "top=layer2")],
    ids=["no names", "one name twice", "the default among them"],
)
def test_several_taps_without_names_of_their_own_are_refused(taps, capsys):
    flags = [word for tap in taps for word in ("--tap", tap)]
    assert convert(DIGITS, *NORMALISED, *flags) != 0
    assert "several taps need a name each" in " ".join(capsys.readouterr().err.split())
    assert not pathlib.Path("out").exists()


def test_own_images_are_compared(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.jpg")
    assert convert(DIGITS, *NORMALISED, "--images", "photos") == 0
    assert "Compared on 3 images" in capsys.readouterr().out
    report = json.loads(pathlib.Path("out/parity.json").read_text())
    assert list(report["images"]) == ["0.jpg", "1.jpg", "2.jpg"]


def test_second_normalisation_is_refused_and_the_flags_to_leave_out_are_named(capsys):
    flags = ("--mean", 0.5, "--std", 0.5)
    assert convert(small_model(scaled=True), *flags, classes="five.txt") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "rescaled twice" in said and "`pixels / 255`" in said
    assert "Leave out --scale, --mean and --std" in said
    assert not pathlib.Path("out").exists()


def test_keras_file_that_rescales_needs_no_normalisation(capsys):
    assert convert(small_model(scaled=True), classes="five.txt") == 0
    assert "Normalised inside the network" in capsys.readouterr().out
    assert card()["preprocessing"]["scale"] == 1.0
    assert card()["taps"]["features"]["layer"] == "map"


def test_saved_model_is_compared_at_its_outputs_and_its_tap():
    model = keras.models.load_model(small_model())
    model.export("saved", verbose=False)
    assert convert("saved", "--mean", 0.5, "--std", 0.5, classes="five.txt") == 0
    report = json.loads(pathlib.Path("out/parity.json").read_text())
    assert report["source"]["runtime"].startswith("tensorflow 2")
    assert list(report["outputs"]) == ["output_0"] and len(report["taps"]) == 1
    assert card()["provenance"]["framework"].startswith("tensorflow 2")


@pytest.mark.slow
def test_weights_fill_an_architecture(capsys):
    build = keras.applications.MobileNetV2
    build(weights=None, classes=5, input_shape=(32, 32, 3), alpha=0.35).save_weights("w.weights.h5")
    arguments = json.dumps({"input_shape": [32, 32, 3], "alpha": 0.35})
    given = ("--architecture", "MobileNetV2", "--architecture_args", arguments)
    assert convert("w.weights.h5", *given, classes="five.txt") == 0
    assert "Normalised as keras.applications does" in capsys.readouterr().out
    assert card()["preprocessing"]["mean"] == 1.0
    assert card()["provenance"]["source"] == "w.weights.h5"


@pytest.mark.slow
def test_a_second_run_replaces_only_when_told(capsys):
    assert convert(DIGITS, *NORMALISED) == 0
    before = card()
    assert convert(DIGITS, *NORMALISED) == 2
    assert "exists already" in capsys.readouterr().err
    assert convert(DIGITS, *NORMALISED, "--overwrite", name="numbers") == 0
    assert card()["name"] == "numbers" and before["name"] == "digits"
    assert sorted(p.name for p in pathlib.Path().iterdir()) == ["five.txt", "out", "ten.txt"]


@pytest.mark.matrix
@pytest.mark.parametrize("foreign", ["thesis.txt", "notes"])
def test_folder_that_holds_more_than_a_teacher_is_never_replaced(capsys, foreign):
    assert convert(DIGITS, *NORMALISED) == 0
    if foreign == "notes":
        pathlib.Path("out", foreign).mkdir()
    else:
        pathlib.Path("out", foreign).write_text("years of work")
    assert convert(DIGITS, *NORMALISED, "--overwrite") == 2
    assert "nothing beside batch_norm.npz, card.json" in capsys.readouterr().err
    assert pathlib.Path("out", foreign).exists()


def test_network_past_the_tolerance_is_written_only_if_that_is_allowed(capsys):
    assert convert(DIGITS, *NORMALISED, "--tolerance", 1e-12) == 1
    assert "prepares images differently from its source" in capsys.readouterr().err
    assert not os.path.exists("out")
    assert convert(DIGITS, *NORMALISED, "--tolerance", 1e-12, "--allow_difference") == 0
    assert "IT DIFFERS" in capsys.readouterr().out
    assert card()["provenance"]["parity"]["passed"] is False
    assert json.loads(pathlib.Path("out/parity.json").read_text())["failure"]


@pytest.mark.slow
def test_unconvertible_network_teaches_in_its_runtime_if_told(capsys):
    keras.models.load_model(small_model()).export("small.tflite", format="litert", verbose=False)
    capsys.readouterr()
    given = ("small.tflite", "--mean", 0.5, "--std", 0.5)
    assert convert(*given, classes="five.txt") == 1
    assert "With --runtime it teaches as it is" in capsys.readouterr().err
    assert convert(*given, "--runtime", classes="five.txt") == 0
    assert written() == ["card.json", "labels.txt", "network", "parity.json"]
    assert not teachers.load("out").in_graph


WRONG = [
    (("--std", 0.3, "--mean", "a"), "--mean must be 1 or 3 numbers"),
    (("--mean", "1,2"), "--mean must be 1 or 3 numbers"),
    (("--mean", "nan"), "--mean must be 1 or 3 numbers"),
    (("--mean", "103.9,116.8,123.7"), "is in 0..255"),
    (("--size", "0"), "--size must be in pixels"),
    (("--size", "1,2,3"), "--size must be in pixels"),
    (("--std", "58.395,57.12,57.375"), "--std=58.395,57.12,57.375 is in 0..255"),
    (("--input_shape", "28,28"), "--input_shape must be in pixels"),
    (
        ("--classes", "nowhere.txt"),
        "--classes must be a file. Received: nowhere.txt, which does not",
    ),
    (("--classes", "."), "--classes must be a file. Received: ., which is a folder."),
    (("--images", "nowhere"), "--images must be a folder. Received: nowhere, which does not"),
    (("--name", "image"), "must differ from the name"),
    (("--architecture_args", "{}}"), "needs --architecture"),
    (("--architecture", "VGG16", "--architecture_args", "[]"), "must be a JSON object"),
    (("--architecture", "VGG16", "--architecture_args", '{"weights": 1}'), "but weights"),
    (("--channels", "gbr"), "channels"),
    (("--out", "."), "exists already"),
]


@pytest.mark.parametrize(("flags", "said"), WRONG)
def test_wrong_flags_are_refused_before_anything_is_read(flags, said, capsys):
    assert convert(DIGITS, *flags) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\n\nb\n", "line 2 of 3 is empty"),
        (b"", "there is no line"),
        (b"a\nb\na\n", "'a' is on lines 1 and 3"),
        (b"a\n\xff\n", "UTF-8"),
        (b"a\nb\n", "each of the network's 10 logits. Received: classes.txt with 2 lines"),
    ],
)
def test_wrong_classes_are_refused(tmp_path, content, said, capsys):
    (tmp_path / "classes.txt").write_bytes(content)
    assert convert(DIGITS, *NORMALISED, classes="classes.txt") == 2
    assert said in capsys.readouterr().err
    assert not os.path.exists("out")


def test_what_only_the_file_shows_to_be_wrong_is_a_usage_error(capsys):
    assert convert(DIGITS) == 2
    assert "how images were normalised" in capsys.readouterr().err
    assert convert(small_model(), "--mean", 0, "--fold_batch_norm", classes="five.txt") == 2
    assert "--fold_batch_norm is for" in capsys.readouterr().err
    assert convert(small_model(), "--architecture", "VGG", classes="five.txt") == 2
    assert "no network 'VGG'" in capsys.readouterr().err


def test_code_in_a_file_is_not_run(capsys):
    layers = [keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x), keras.layers.Flatten()]
    keras.Sequential(layers).save("code.keras")
    assert convert("code.keras", "--mean", 0) == 1
    assert "code" in capsys.readouterr().err
    assert not os.path.exists("out")
    pathlib.Path("weights.pt").write_bytes(b"\x80\x04cos\nsystem\n")
    assert convert("weights.pt", "--mean", 0) == 2
    assert "FILE must be .onnx, .keras, .h5" in capsys.readouterr().err


def process(*arguments, **options):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


ARGUMENTS = ["convert", DIGITS, "--classes", "ten.txt", "--name", "d", "--out", "out", *NORMALISED]

FULL_DISK = """
import resource, sys
import keras_amalgam.cli.main as cli
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path):
    with process("-c", FULL_DISK, *ARGUMENTS, cwd=tmp_path) as running:
        _, error = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "cannot be written to out, where nothing was left" in error
    assert "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["five.txt", "ten.txt"]


@pytest.mark.slow
def test_interruption_leaves_nothing(tmp_path):
    # A shell that starts the tests in the background has them, and so their children, ignore it.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with process("-m", "keras_amalgam", *ARGUMENTS, cwd=tmp_path, preexec_fn=heed) as running:
        assert "Reading digits.onnx" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, error = running.communicate(timeout=120)
    assert running.returncode == 130, error
    assert "Interrupted. Nothing was written in place." in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["five.txt", "ten.txt"]


@pytest.mark.slow
def test_ending_of_the_name_may_be_in_capitals(tmp_path):
    shutil.copy(DIGITS, tmp_path / "DIGITS.ONNX")
    assert convert("DIGITS.ONNX", *NORMALISED) == 0
    assert written() == FILES

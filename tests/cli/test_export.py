"""`keras-amalgam export`: verified artifacts in a folder, or a word on why not."""

import json
import pathlib
import zipfile

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_amalgam import export
from keras_amalgam.cli.main import main
from keras_amalgam.export import parity

pytestmark = pytest.mark.usefixtures("verified_here")

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A student that tells colours, with its labels, and folders of photographs."""
    folder = tmp_path_factory.mktemp("made")
    image = keras.Input((None, None, 3))
    x = keras.ops.image.resize(image, (16, 16))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 64, -2.0)(x))
    head = keras.layers.Dense(3, name="colour")
    student = keras.Model(image, {"colour": head(x)}, name="hues")
    head.set_weights([np.eye(3, dtype="float32") * 3, np.zeros(3, "float32")])
    names = {"colour": COLOURS}
    export.to_keras(student, folder / "hues.keras", class_names=names)
    rng = np.random.default_rng(0)
    for number in range(24):
        colour = number % 3
        photo = rng.integers(0, 120, (20 + number, 30, 3))
        photo[..., colour] += 100
        for place in ("photos", f"test/{COLOURS[colour]}"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(folder / place / f"{number}.png", photo, scale=False)
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(made):
    def command(format, *flags, student=None, images=True, out="out"):
        given = ["--images", made / "photos"] if images else []
        words = [format, student or made / "hues.keras", *given, "--out", out, *flags]
        return main(["export", *map(str, words)])

    return command


def written(folder="out"):
    return sorted(path.name for path in pathlib.Path(folder).iterdir())


@pytest.mark.slow
@pytest.mark.fresh_process
def test_precisions_stand_side_by_side_with_one_report(run, made, capsys):
    code = run(
        "tflite",
        *("--precision", "float32,int8", "--joint", "--top_k", "2"),
        *("--test", f"colour={made / 'test'}", "--max_accuracy_loss", "1"),
    )
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert written() == [
        "export.html",
        "export.json",
        "hues.metadata.json",
        "hues.tflite",
        "hues_int8.metadata.json",
        "hues_int8.tflite",
    ]
    report = json.loads(pathlib.Path("out/export.json").read_text())
    for name in ("hues.tflite", "hues_int8.tflite"):
        accuracy = report["artifacts"][name]["accuracy"]["colour"]
        assert accuracy["artifact"] == accuracy["student"] == 1.0
        assert name in printed.out
    runner = Interpreter("out/hues_int8.tflite").get_signature_runner("serving_default")
    image = np.zeros((1, 16, 16, 3), np.uint8)
    image[..., 2] = 250
    assert list(runner(image=image)["colour_ids"][0])[0] == 2
    assert export.read_labels("out/hues.tflite")["joint"] == COLOURS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "flags", "artifact"),
    [
        ("onnx", ("--layout", "NCHW", "--opset", "15"), "hues.onnx"),
        ("saved_model", (), "hues"),
        ("keras", ("--name", "tints"), "tints.keras"),
    ],
)
def test_other_formats_are_packaged_alike(format, flags, artifact, run, capsys):
    assert run(format, *flags) == 0, capsys.readouterr().err
    assert {artifact, "export.json", "export.html"} <= set(written())
    assert export.read_labels(f"out/{artifact}") == {"colour": COLOURS}
    report = json.loads(pathlib.Path("out/export.json").read_text())["artifacts"][artifact]
    assert report["heads"]["colour"]["max_abs_error"] <= 1e-4


@pytest.mark.slow
def test_bundle_gets_a_version_after_the_other_each_with_its_report(run, capsys):
    assert run("serving", "--name", "animals") == 0, capsys.readouterr().err
    assert run("serving", "--name", "animals", "--label", "canary") == 0
    assert written("out/animals") == ["1", "2"]
    for version in ("1", "2"):
        report = pathlib.Path("out/animals", version, "assets.extra", "export.json")
        assert f"animals/{version}" in json.loads(report.read_text())["artifacts"]


@pytest.mark.slow
def test_missed_threshold_fails_and_leaves_nothing(run, capsys):
    for format in ("tflite", "serving"):
        assert run(format, "--max_bytes", "100") == 1
        error = capsys.readouterr().err
        assert "thresholds are missed" in error and "too large, in bytes" in error
        assert written(".") == []


def test_image_that_cannot_be_decoded_is_named_and_nothing_written(run, capsys):
    pathlib.Path("broken").mkdir()
    pathlib.Path("broken/cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run("onnx", "--images", "broken", images=False) == 1
    assert "what is no image. Received: 'broken/cut.png'" in capsys.readouterr().err
    assert written(".") == ["broken"]


def test_calibration_without_images_is_named_by_its_flag(run, tmp_path, capsys):
    (tmp_path / "bare").mkdir()
    assert run("tflite", "--precision", "int8", "--calibration", "bare") == 1
    assert "--calibration holds no images. Received: 'bare'" in capsys.readouterr().err


def test_limit_on_accuracy_without_labelled_images_is_refused(run, capsys):
    assert run("onnx", "--max_accuracy_loss", "0.5") == 1
    assert "--test TASK=DIR" in capsys.readouterr().err
    assert run("onnx", "--min_agreement", "99") == 1
    assert "--min_agreement is no such limit. Received: 99.0" in capsys.readouterr().err
    assert written(".") == []


@pytest.mark.slow
def test_images_can_be_named_by_task(run, made, capsys):
    photos = ("--images", f"colour={made / 'photos'}")
    assert run("tflite", *photos, "--precision", "int8", images=False) == 0
    assert run("onnx", *photos, *photos, images=False, out="again") == 2
    assert "--images wants TASK=PATH, once for each task" in capsys.readouterr().err
    assert run("onnx", "--images", f"shade={made / 'photos'}", images=False, out="other") == 1
    assert "images of 'shade'" in capsys.readouterr().err


@pytest.mark.slow
def test_fallback_takes_the_place_of_what_misses_a_threshold(run, capsys):
    precisions = ("--precision", "int8,float32", "--fallback", "dynamic,float16")
    assert run("tflite", *precisions, "--max_error", "0.02") == 0
    printed = capsys.readouterr().out
    assert "hues_dynamic.tflite stands for hues_int8.tflite: Task 'colour' disagrees" in printed
    assert [name for name in written() if name.endswith("tflite")] == [
        "hues.tflite",
        "hues_dynamic.tflite",
    ]


@pytest.fixture
def open_student(here):
    """A student of any size that resizes nothing."""
    image = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 64, -2.0)(image))
    head = keras.layers.Dense(3, name="colour")
    student = keras.Model(image, {"colour": head(x)}, name="open")
    # Logits in the hundreds, which float32 rounds by more than 1e-4.
    head.set_weights([np.eye(3, dtype="float32") * 3000, np.zeros(3, "float32")])
    (here / "students").mkdir()
    path = here / "students" / "open.keras"
    export.to_keras(
        student, path, class_names={"colour": COLOURS}, images=np.ones((1, 9, 9, 3)) * 9
    )
    return path


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "saved_model", "keras"])
def test_student_of_open_size_needs_no_size_where_the_artifact_has_none(
    format, open_student, run, capsys
):
    assert run(format, student=open_student) == 0, capsys.readouterr().err
    assert run(format, "--size", "20,30", student=open_student, out="sized") == 0


@pytest.mark.slow
@pytest.mark.parametrize("format", ["tflite", "serving"])
def test_student_of_open_size_asks_for_the_size_by_its_flag(format, open_student, run, capsys):
    assert run(format, student=open_student) == 1
    error = capsys.readouterr().err
    assert "--size" in error and "image_shape" not in error
    assert run(format, "--size", "20,30", student=open_student) == 0, capsys.readouterr().err


def test_threshold_is_what_decides_where_an_exporter_has_bounds_of_its_own(run, capsys):
    strict = ("--precision", "int8", "--max_error", "10", "--min_agreement", "0")
    assert run("tflite", *strict) == 0, capsys.readouterr().err
    assert json.loads(pathlib.Path("out/export.json").read_text())["thresholds"]["max_error"] == 10


def test_files_of_others_survive_overwriting(run, capsys):
    assert run("onnx") == 0
    pathlib.Path("out/notes.txt").write_text("mine")
    assert run("onnx", "--overwrite") == 2
    assert "only what was written with it" in capsys.readouterr().err
    assert pathlib.Path("out/notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_earlier_result_is_replaced_only_if_asked_for(run, capsys):
    assert run("onnx") == 0
    before = pathlib.Path("out/export.json").read_text()
    assert run("onnx") == 2
    assert "out exists already" in capsys.readouterr().err
    assert run("onnx", "--overwrite", "--max_error", "1e-12") == 1
    assert pathlib.Path("out/export.json").read_text() == before
    assert run("onnx", "--overwrite") == 0


def test_error_advises_flags_and_names_no_temporary_folder(run, monkeypatch, capsys):
    assert run("tflite", "--precision", "int16", "--top_k", "2") == 1
    assert "Leave --top_k out" in capsys.readouterr().err
    monkeypatch.setitem(parity.DEFAULT_BOUNDS, "int8", parity.Bounds(max_abs_error=0.0))
    assert run("tflite", "--precision", "int8") == 1
    error = capsys.readouterr().err
    assert "accept more with --max_error" in error and "file 'hues_int8.tflite'" in error
    assert written(".") == []


@pytest.mark.slow
def test_given_images_are_what_float16_is_compared_on(run, made, monkeypatch):
    given = []
    to_tflite = export.to_tflite

    def noting(*args, **rest):
        given.append(rest["images"])
        return to_tflite(*args, **rest)

    monkeypatch.setattr(export, "to_tflite", noting)
    assert run("tflite", "--precision", "float32,float16") == 0
    assert [images.shape for images in given] == [(24, 16, 16, 3)] * 2


@pytest.mark.slow
def test_classes_can_be_given_in_files(run, made, capsys):
    pathlib.Path("bare.keras").write_bytes((made / "hues.keras").read_bytes())
    assert run("onnx", student="bare.keras") == 2
    assert "--classes TASK=FILE" in capsys.readouterr().err
    pathlib.Path("names.txt").write_text("r\ng\nb\n")
    assert run("onnx", "--classes", "colour=names.txt", student="bare.keras") == 0
    assert export.read_labels("out/hues.onnx") == {"colour": ("r", "g", "b")}
    pathlib.Path("names.txt").write_bytes(b"\xef\xbb\xbfr\r\ng\r\nb\r\n")
    assert run("onnx", "--classes", "colour=names.txt", "--overwrite", student="bare.keras") == 0
    assert export.read_labels("out/hues.onnx") == {"colour": ("r", "g", "b")}
    pathlib.Path("names.txt").write_bytes(b"gr\xfcn\ng\nb\n")
    assert run("onnx", "--classes", "colour=names.txt", out="new", student="bare.keras") == 2
    assert "--classes must be UTF-8 text. Received: names.txt" in capsys.readouterr().err
    pathlib.Path("bare.labels.json").write_text('{"colour": [')
    assert run("onnx", out="new", student="bare.keras") == 1
    assert "labels of 'bare.keras' cannot be read" in capsys.readouterr().err


def unknown_to_others(x):
    return x


def test_student_that_plain_keras_cannot_load_is_for_python(run, capsys):
    image = keras.Input((4, 4, 3))
    x = keras.layers.Flatten()(keras.layers.Activation(unknown_to_others)(image))
    keras.Model(image, {"colour": keras.layers.Dense(3)(x)}).save("odd.keras")
    assert run("onnx", student="odd.keras") == 1
    error = capsys.readouterr().err
    assert "Keras cannot load odd.keras" in error and len(error.splitlines()) < 5


@pytest.mark.parametrize(
    ("format", "flags", "message"),
    [
        ("flex", (), "FORMAT one of tflite, serving, onnx"),
        ("onnx", ("--precision", "int8"), "export onnx does not take --precision."),
        ("tflite", ("--label", "a", "--opset", "15"), "does not take --opset, --label."),
        ("tflite", ("--precision", "int4"), "Received: int4"),
        ("onnx", ("--name", "my model"), "--name wants ASCII letters"),
        ("tflite", ("--fallback", "int3"), "--fallback wants one or more of"),
        ("tflite", ("--fallback", "int16"), "stands for one other --precision"),
        ("tflite", ("--precision", "int8,int16", "--fallback", "float16"), "one other --precision"),
        ("tflite", ("--precision", "int8", "--fallback", "int8"), "names new ones"),
        ("onnx", ("--fallback", "int16"), "export onnx does not take --fallback."),
        (
            "tflite",
            ("--image_dtype", "int8"),
            "--image_dtype is for --precision int8. Received: fl",
        ),
        ("tflite", ("--calibration", "."), "--calibration is for --precision int8 or int16"),
        ("tflite", ("--size", "a"), "--size wants HEIGHT,WIDTH"),
        ("tflite", ("--test", "colour"), "--test wants TASK=PATH"),
        ("tflite", ("--test", "colour=missing"), "--test must be a folder. Received: missing"),
        ("tflite", ("--classes", "colour=missing"), "--classes must be a file. Received: missing"),
        ("serving", ("--overwrite",), "never overwritten"),
    ],
)
def test_wrong_command_line_is_refused_before_any_work(format, flags, message, run, capsys):
    assert run(format, *flags) == 2
    assert message in capsys.readouterr().err
    assert written(".") == []


def test_missing_images_and_student_are_refused(run, made, capsys):
    assert run("onnx", images=False) == 2
    assert "--images=FOLDER is needed" in capsys.readouterr().err
    whole = (made / "hues.keras").read_bytes()
    for content in (b"junk", whole.replace(b"PK\x01\x02", b"PK\x00\x02", 1)):
        pathlib.Path("junk.keras").write_bytes(content)
        assert run("onnx", student="junk.keras") == 2
        assert "STUDENT is a .keras file, as Keras writes it. Received: junk.keras" in (
            capsys.readouterr().err
        )
    with zipfile.ZipFile("other.keras", "w") as archive:
        archive.writestr("a.txt", "a")
    assert run("onnx", student="other.keras") == 2
    assert "as Keras writes it. Received: other.keras" in capsys.readouterr().err
    assert run("onnx", student="missing.keras") == 2
    assert "There is no file or directory missing.keras" in capsys.readouterr().err

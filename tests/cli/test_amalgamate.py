"""`keras-amalgam amalgamate`: what it refuses, and how it says so."""

import dataclasses

import pytest
from absl import flags
from PIL import Image

from keras_amalgam.cli import amalgamate as command
from keras_amalgam.cli import canvas_flag
from keras_amalgam.cli.main import main
from keras_amalgam.images.canvas import METHODS
from keras_amalgam.images.pillow_files import extensions

CLASSES = {"digits": ("two", "one", "three"), "shapes": ("square", "circle")}
SIZE = ("--size", 16, "--channels", 1, "--epochs", 1, "--batch_size", 4)


def write_images(folder, images):
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(folder / f"{number}.png")


@pytest.fixture
def inputs(make, tmp_path, monkeypatch):
    """Two saved teachers and unlabelled images, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, classes in CLASSES.items():
        make.teacher(name, classes).save(tmp_path / name)
    write_images(tmp_path / "photos", make.images(8))
    return tmp_path


def amalgamate(*flags, images="photos"):
    teachers = [word for name in CLASSES for word in ("--teacher", name)]
    return main(["amalgamate", *teachers, "--images", images, *map(str, flags)])


def files_below(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.matrix
@pytest.mark.parametrize(
    "out", ["digits", "photos", "labelled/shapes", ".", "photos/runs/mine", "../{name}", "link"]
)
def test_results_in_or_around_an_input_are_refused(inputs, out, capsys):
    for name, classes in CLASSES.items():
        for number in range(len(classes)):
            (inputs / "labelled" / name / str(number)).mkdir(parents=True)
    earlier = (inputs, inputs / "photos", inputs / "labelled" / "shapes", inputs / "digits")
    for folder in earlier:  # Earlier results, so that only the place is wrong.
        for name in ("report.json", "report.html"):
            (folder / name).write_text("earlier")
    (inputs / "link").symlink_to(inputs / "photos")
    before = files_below(inputs)
    tests = [word for name in CLASSES for word in ("--test", f"{name}=labelled/{name}")]
    assert amalgamate(*tests, "--restart", "--out", out.format(name=inputs.name)) == 2
    assert "a folder apart from all inputs. Received: --out=" in capsys.readouterr().err
    assert files_below(inputs) == before


def test_restart_refuses_a_folder_that_is_no_earlier_run(inputs, capsys):
    (inputs / "mine").mkdir()
    (inputs / "mine" / "kept.txt").write_text("mine")
    assert amalgamate("--restart", "--out", "mine") == 2
    assert "A run needs a folder of its own" in capsys.readouterr().err
    assert (inputs / "mine" / "kept.txt").read_text() == "mine"


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            ["--ownership", "source"],
            "--ownership=source needs one sub-folder of photos per teacher",
        ),
        (["--student", "compact", "--weights", "imagenet"], "Received: --weights=imagenet. Take"),
        (["--student", "MobilNet"], "Unknown student 'MobilNet'. Expected: a .keras file"),
        (["--test", "digits=photos", "--test", "digits=photos"], "one folder per teacher"),
        (["--test", "cats=photos"], "tasks that no teacher has. Received: ['cats']"),
        (
            ["--test", "digits=nowhere"],
            "--test must be a folder. Received: nowhere, which does not exist.",
        ),
        (["--test", "digits=a.txt"], "--test must be a folder. Received: a.txt, which is a file."),
        (["--teacher", "digits"], "Received twice: ['digits']. Give each teacher a different name"),
        (["--teacher", "a.txt"], "--teacher must be a folder. Received: a.txt, which is a file."),
        (["--size", "7"], "--size wants HEIGHT,WIDTH or one number, each at least 8"),
        (["--size", "16,16,16"], "Received: 16,16,16"),
        (["--size", "big"], "Received: big"),
        (["--canvas", "16,crap"], "--canvas wants HEIGHT,WIDTH or HEIGHT,WIDTH,METHOD"),
        (["--canvas", "16,16,16"], "one of resize, pad, crop. Received: 16,16,16"),
        (["--canvas", "crop"], "Received: crop"),
        (["--canvas", "0,16"], "Received: 0,16"),
    ],
)
def test_what_does_not_fit_the_teachers_is_a_usage_error(inputs, wrong, said, capsys):
    (inputs / "a.txt").touch()
    assert amalgamate(*wrong, "--out", "out") == 2
    error = capsys.readouterr().err
    assert said in error
    assert "amalgamate --help` explains" in error
    assert not (inputs / "out").exists()


def test_a_damaged_input_is_no_usage_error(inputs, capsys):
    (inputs / "photos" / "broken.png").write_bytes(b"no image")
    assert amalgamate(*SIZE, "--out", "out") == 1
    assert "broken.png" in capsys.readouterr().err


def test_a_batch_larger_than_the_images_is_refused_with_the_flag_to_lower(inputs, capsys):
    assert amalgamate("--out", "out") == 1
    assert "Lower --batch_size to 8" in capsys.readouterr().err
    assert not (inputs / "out").exists()


@pytest.fixture
def differing(make, tmp_path, monkeypatch):
    """A teacher that cuts photographs and one that squeezes them, and photographs of two shapes."""
    monkeypatch.chdir(tmp_path)
    for (name, classes), cuts in zip(CLASSES.items(), (True, False), strict=True):
        teacher = make.teacher(name, classes)
        teacher.preprocessing = dataclasses.replace(
            teacher.preprocessing, crop_to_aspect_ratio=cuts
        )
        teacher.save(tmp_path / name)
    write_images(tmp_path / "photos" / "square", make.images(4, size=40))
    write_images(tmp_path / "photos" / "wide", make.images(4, size=40)[:, :20])
    return tmp_path


def test_teachers_that_no_canvas_is_right_for_are_refused_with_the_flag_to_choose(
    differing, capsys
):
    assert amalgamate(*SIZE, "--out", "out") == 1
    error = capsys.readouterr().err
    assert "Teacher 'digits' cuts them to the shape of 12 × 12" in error
    assert "Teacher 'shapes' squeezes them to 12 × 12" in error
    assert "--canvas=16,16,crop shows them without their sides" in error


def test_a_canvas_too_small_for_a_teacher_is_refused_naming_it(differing, capsys):
    assert amalgamate(*SIZE, "--canvas", "10,10,crop", "--out", "out") == 1
    assert "Teacher 'digits' resizes photographs to 12 × 12" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (None, None)),
        (["--size", "64"], ((64, 64), None)),
        (["--size", "48,64", "--canvas", "256"], ((48, 64), (256, 256))),
        (["--canvas=200,300"], (None, (200, 300))),
        (["--canvas=200,300,pad"], (None, (200, 300, "pad"))),
        (["--canvas=256,crop"], (None, (256, 256, "crop"))),
    ],
)
def test_size_and_canvas_are_one_number_or_two_and_a_method(words, expected):
    values = flags.FlagValues()
    command.define_flags(values)
    values(["amalgamate", *words])
    assert (command.student_size(values), canvas_flag.canvas_of(values)) == expected


def test_methods_of_the_flag_are_those_of_a_canvas():
    assert canvas_flag.METHODS == METHODS


def test_help_names_the_file_types_and_when_not_to_mirror(capsys):
    assert main(["amalgamate", "--help"]) == 0
    said = capsys.readouterr().out
    named = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif"}
    assert all(ending in said for ending in named) and named <= {*extensions()}
    assert "--noflip where mirrored images mean something else or nothing: text, digits" in said

"""`keras-amalgam amalgamate`: what it refuses, and how it says so."""

import pytest
from PIL import Image

from keras_amalgam.cli.main import main
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


@pytest.mark.parametrize(
    "out", ["digits", "photos", "labelled/shapes", ".", "photos/runs/mine", "../{name}", "link"]
)
def test_results_in_or_around_an_input_are_refused(inputs, out, capsys):
    for name, classes in CLASSES.items():
        for number in range(len(classes)):
            (inputs / "labelled" / name / str(number)).mkdir(parents=True)
    for folder in (inputs, inputs / "photos", inputs / "labelled" / "shapes"):
        (folder / "report.json").write_text("an earlier result, so that only the place is wrong")
    (inputs / "digits" / "report.json").write_text("earlier")
    (inputs / "link").symlink_to(inputs / "photos")
    before = files_below(inputs)
    tests = [word for name in CLASSES for word in ("--test", f"{name}=labelled/{name}")]
    assert amalgamate(*tests, "--overwrite", "--out", out.format(name=inputs.name)) == 2
    assert "a folder apart from all inputs. Received: --out=" in capsys.readouterr().err
    assert files_below(inputs) == before


def test_overwriting_refuses_a_folder_that_is_no_earlier_result(inputs, capsys):
    (inputs / "mine").mkdir()
    (inputs / "mine" / "kept.txt").write_text("mine")
    assert amalgamate("--overwrite", "--out", "mine") == 2
    assert "earlier results only" in capsys.readouterr().err
    assert (inputs / "mine" / "kept.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--ownership", "source"], "needs one sub-folder of photos per teacher"),
        (["--student", "MobilNet"], "There is no student 'MobilNet'"),
        (["--test", "digits=photos", "--test", "digits=photos"], "one folder per teacher"),
        (["--test", "cats=photos"], "tasks that no teacher has. Received: ['cats']"),
    ],
)
def test_what_does_not_fit_the_teachers_is_a_usage_error(inputs, wrong, said, capsys):
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


def test_help_names_the_file_types_and_when_not_to_mirror(capsys):
    assert main(["amalgamate", "--help"]) == 0
    said = capsys.readouterr().out
    named = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif"}
    assert all(ending in said for ending in named) and named <= {*extensions()}
    assert "--noflip where mirrored images mean something else or nothing: text, digits" in said

"""`keras-amalgam predict`: a table, JSON or a page of what an artifact says of photographs."""

import json
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import export
from keras_amalgam.cli.main import main

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two artifacts of a student that tells colours, and photographs of each colour."""
    folder = tmp_path_factory.mktemp("made")
    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 64, -2.0)(image))
    colour, warmth = keras.layers.Dense(3, name="colour"), keras.layers.Dense(2, name="warmth")
    student = keras.Model(image, {"colour": colour(x), "warmth": warmth(x)}, name="hues")
    colour.set_weights([2 * np.eye(3, dtype="float32"), np.zeros(3, "float32")])
    warm = np.array([[2, 0], [0, 0], [0, 2]], "float32")
    warmth.set_weights([warm, np.zeros(2, "float32")])
    student.class_names = {"colour": COLOURS, "warmth": ("warm", "cold")}
    export.to_keras(student, folder / "hues.keras")
    export.to_tflite(student, folder / "hues.tflite")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number, name in enumerate(COLOURS):
        photo = rng.integers(0, 120, (20, 30, 3))
        photo[..., number] += 100
        keras.utils.save_img(folder / "photos" / f"{name}.png", photo, scale=False)
    return folder


@pytest.fixture(autouse=True)
def here(made, tmp_path, monkeypatch):
    """A folder of its own that sees what was made."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def predict(*words):
    return main(["predict", *map(str, words)])


def expected(**arguments):
    return export.predict(**{"path": "hues.keras", "images": "photos", **arguments}).to_dict()


def test_table_names_each_image_and_task_once(capsys):
    assert predict("hues.keras", "photos", "--top", 2) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    said = export.predict("hues.keras", "photos", top=2)
    lines = [line.split() for line in printed.out.splitlines()]
    assert lines[:3] == [["hues.keras"], [], ["image", "task", "class", "score"]]
    wanted = []
    for one in said.images:
        first = [str(one.image)]
        for task, scores in {**one.tasks, "joint": one.joint}.items():
            first = [*first, task]
            for score in scores:
                whose = [f"({score.tasks[0]})"] if task == "joint" else []
                wanted.append([*first, score.name, *whose, f"{100 * score.score:.1f}", "%"])
                first = []
    assert lines[3:] == wanted


def test_json_is_all_that_is_printed(capsys):
    assert predict("hues.tflite", "photos", "photos/red.png", "--json") == 0
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert said == expected(path="hues.tflite", images=["photos", "photos/red.png"])
    assert [one["tasks"]["colour"][0]["class"] for one in said["predictions"]] == [
        *("blue", "green", "red"),
        "red",
    ]


def test_files_are_written_beside_the_table_and_replaced_only_if_told_to(here, capsys):
    words = ["hues.keras", "photos", "--top", 1, "--out", "new/said.json", "--page", "page.html"]
    assert predict(*words) == 0
    printed = capsys.readouterr()
    assert "blue.png" in printed.out
    assert printed.err == "Written to new/said.json\nWritten to page.html\n"
    assert json.loads(pathlib.Path("new/said.json").read_text()) == expected(top=1)
    page = pathlib.Path("page.html").read_text()
    assert all(f"<span>{name}" in page for name in COLOURS)
    assert page.count('<img alt="photos/') == 3
    assert predict(*words) == 2
    assert "new/said.json exists already" in capsys.readouterr().err
    words[3] = 2
    assert predict(*words, "--overwrite") == 0
    assert json.loads(pathlib.Path("new/said.json").read_text()) == expected(top=2)
    assert sorted(path.name for path in here.iterdir() if not path.is_symlink()) == [
        "new",
        "page.html",
    ]


def test_page_of_a_failed_write_is_not_there(here, capsys, monkeypatch):
    from keras_amalgam.export.prediction import page

    def no_room(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "_thumbnail", no_room)
    assert predict("hues.keras", "photos", "--page", "page.html") == 1
    assert "No space left" in capsys.readouterr().err
    assert not (here / "page.html").exists()


@pytest.mark.parametrize("name", ["mine.json", "mine.html"])
def test_file_of_somebody_else_is_never_replaced(here, capsys, name):
    (here / name).write_text("{}")
    flag = "--out" if name.endswith("json") else "--page"
    assert predict("hues.keras", "photos", flag, name, "--overwrite") == 2
    assert f"Received: {flag}={name}, which `predict` did not write" in capsys.readouterr().err
    assert (here / name).read_text() == "{}"


def test_folder_takes_its_keras_file_and_names_what_is_passed_over(here, made, capsys):
    folder = here / "several"
    folder.mkdir()
    for path in made.glob("hues.*"):
        (folder / path.name).symlink_to(path)
    photos = here / "shots"
    photos.mkdir()
    (photos / "notes.txt").write_text("")
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (photos / "red.png").symlink_to(made / "photos" / "red.png")
    assert predict("several", "shots", "--json") == 0
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert said["artifact"] == "several/hues.keras"
    assert list(said["unreadable"]) == ["shots/broken.png"]
    assert "Passed over in 'shots': 1 .txt." in printed.err
    assert "Not read: shots/broken.png: " in printed.err
    assert predict("several", "shots", "--json", "--artifact", "hues.tflite") == 0
    assert json.loads(capsys.readouterr().out)["artifact"] == "several/hues.tflite"


def test_classes_that_are_not_known_are_numbers_until_they_are_named(here, made, capsys):
    (here / "bare").mkdir()
    (here / "bare" / "hues.keras").symlink_to(made / "hues.keras")
    assert predict("bare", "photos/blue.png", "--top", 1) == 0
    printed = capsys.readouterr()
    assert "bare/hues.keras holds no class names of colour, warmth: numbers" in printed.err
    assert re.search(r"photos/blue.png +colour +2 +\d", printed.out)
    (here / "colours.txt").write_text("rot\ngrün\nblau\n")
    assert predict("bare", "photos/blue.png", "--classes", "colour=colours.txt", "--top=1") == 0
    printed = capsys.readouterr()
    assert "no class names of warmth:" in printed.err
    assert re.search(r"photos/blue.png +colour +blau +\d", printed.out)


def test_network_that_says_nothing_of_its_normalisation_is_doubted(here, capsys):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(image)
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(image, x, name="cars").save(here / "cars.keras")
    words = ["cars.keras", "photos/red.png", "--out", "said.json", "--page", "page.html"]
    assert predict(*words) == 0
    doubt = "Nothing says how the training images of cars.keras were normalised"
    error = capsys.readouterr().err
    assert doubt in error and "Pixels 0..255 went in as they are" in error
    assert "teacher's folder with `keras-amalgam convert`" in error
    (note,) = json.loads(pathlib.Path("said.json").read_text())["notes"]
    assert note.startswith(doubt) and note in error
    assert doubt in pathlib.Path("page.html").read_text()
    assert predict(*words, "--overwrite") == 0


def test_json_of_an_earlier_version_is_replaced_too(here):
    told = expected(top=1)
    del told["notes"]
    (here / "said.json").write_text(json.dumps(told))
    assert predict("hues.keras", "photos", "--out", "said.json", "--overwrite") == 0


def test_long_name_of_a_class_is_cut_at_its_end_in_the_table_alone(here, capsys):
    long = "great white shark, white shark, man-eater, Carcharodon carcharias"
    (here / "colours.txt").write_text(f"red\ngreen\n{long}\n")
    words = ["hues.keras", "photos/blue.png", "--classes", "colour=colours.txt", "--top", 1]
    assert predict(*words, "--page", "page.html") == 0
    assert "  great white shark, white shark, man-eat…  " in capsys.readouterr().out
    assert f"<span>{long}" in pathlib.Path("page.html").read_text()
    assert predict(*words, "--json") == 0
    assert f'"{long}"' in capsys.readouterr().out


def test_teacher_is_asked_in_its_own_runtime(here, made, capsys):
    from keras_amalgam import teachers

    student = keras.saving.load_model(made / "hues.keras")
    alone = keras.Model(student.inputs, {"hue": student.output["colour"]}, name="hue")
    export.to_tflite(alone, here / "hue.tflite", class_names={"hue": COLOURS})
    teacher = teachers.runtime_teacher(
        here / "hue.tflite", "hue", COLOURS, preprocessing=ka.Preprocessing(scale=1.0)
    )
    teacher.save(here / "hue")
    assert predict("hue", "photos", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["format"] == "teacher"
    for one, other in zip(said["predictions"], expected()["predictions"], strict=True):
        for given, wanted in zip(one["tasks"]["hue"], other["tasks"]["colour"], strict=True):
            assert given["class"] == wanted["class"]
            assert given["score"] == pytest.approx(wanted["score"], abs=0.01)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "ARTIFACT and one or more IMAGES are expected. Received: none"),
        (["hues.keras"], "ARTIFACT and one or more IMAGES are expected. Received: hues.keras"),
        (["hues.keras", "nowhere.png"], "There is no file or directory nowhere.png"),
        (["nowhere.keras", "photos"], "'nowhere.keras', which does not exist"),
        (["photos", "photos"], "There is no artifact in the folder. Received: 'photos'"),
        (["hues.keras", "photos", "--top", "0"], "top"),
        (["hues.keras", "photos", "--artifact", "a"], "Leave --artifact out"),
        ([".", "photos", "--artifact", "a"], "Received: --artifact=a. Expected: one of"),
        (["hues.keras", "photos", "--out", "said"], "--out must be a file ending in .json"),
        (["hues.keras", "photos", "--page", "photos"], "--page must be a file ending in .html"),
        (["hues.keras", "photos", "--classes", "colour"], "--classes wants TASK=PATH"),
        (["hues.keras", "photos", "--classes", "colour=x"], "--classes must be a file"),
    ],
)
def test_wrong_command_line_is_a_usage_error(words, said, capsys):
    assert predict(*words) == 2
    error = capsys.readouterr().err
    assert said in error and "`keras-amalgam predict --help` explains" in error


def test_failure_says_what_came_and_writes_nothing(here, made, capsys):
    (here / "cut.keras").write_bytes((made / "hues.keras").read_bytes()[:2000])
    assert predict("cut.keras", "photos", "--page", "page.html", "--out", "said.json") == 1
    assert "'cut.keras' is cut off or damaged" in capsys.readouterr().err
    (here / "empty").mkdir()
    assert predict("hues.keras", "empty", "--page", "page.html") == 1
    assert "IMAGES holds no images. Received: 'empty'" in capsys.readouterr().err
    (here / "three.txt").write_text("a\nb\nc\n")
    assert predict("hues.keras", "photos", "--classes", "warmth=three.txt") == 1
    assert "Give the names of its tasks with --classes TASK=FILE." in capsys.readouterr().err
    assert not (here / "page.html").exists() and not (here / "said.json").exists()


@pytest.mark.slow
def test_standard_output_of_the_process_is_json_alone():
    command = [sys.executable, "-m", "keras_amalgam", "predict", "hues.tflite", "photos", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == expected(path="hues.tflite")
    assert done.stderr == ""

"""The directory of a teacher in its own runtime: original file, card, labels, and nothing else."""

import json
import shutil

import numpy as np
import onnx
import pytest

import keras_amalgam as ka
from keras_amalgam import teachers
from keras_amalgam.models.signals import Signals

CLASSES = ["a", "b", "c", "d", "e"]
NORMAL = ka.Preprocessing(mean=(0.2, 0.4, 0.6), std=0.4)
IMAGES = np.random.default_rng(5).integers(0, 256, (3, 12, 12, 3)).astype("uint8")


@pytest.fixture
def path(network, tmp_path):
    """The residual network as a file."""
    onnx.save(network, tmp_path / "letters.onnx")
    return tmp_path / "letters.onnx"


def letters(path, **changes):
    settings = {"tap": "body", "preprocessing": NORMAL}
    return teachers.runtime_teacher(path, "letters", CLASSES, **settings | changes)


def assert_same_signals(a, b):
    mine, its = (Signals.of(one.signals(3)(IMAGES)) for one in (a, b))
    assert mine.shapes() == its.shapes()
    for key, value in {**mine.answers, **mine.features}.items():
        np.testing.assert_array_equal({**its.answers, **its.features}[key], value)


def test_directory_holds_the_original_file_card_and_labels(path, tmp_path):
    teacher = letters(path)
    teacher.save(tmp_path / "t")
    names = sorted(str(p.relative_to(tmp_path / "t")) for p in (tmp_path / "t").rglob("*.*"))
    assert names == ["card.json", "labels.txt", "network/letters.onnx"]
    assert (tmp_path / "t/network/letters.onnx").read_bytes() == path.read_bytes()
    assert (tmp_path / "t/labels.txt").read_text().split() == CLASSES
    again = teachers.load(tmp_path / "t")
    assert isinstance(again, ka.RuntimeTeacher)
    assert again.card() == teacher.card()
    assert (again.tap, again.class_names) == (ka.Tap("body"), tuple(CLASSES))
    assert_same_signals(teacher, again)


def test_card_says_where_the_network_comes_from(path):
    card = letters(path).card()
    same = teachers.from_onnx(path, verify=False).provenance
    assert card["weights_sha256"] == card["provenance"]["sha256"] == same.sha256
    assert (card["provenance"]["source"], card["provenance"]["opset"]) == ("letters.onnx", 17)
    assert card["provenance"]["converter"].startswith("none: run by onnxruntime 1.")
    assert letters(path).count_params() == sum(
        onnx.numpy_helper.to_array(t).size for t in onnx.load(path).graph.initializer
    )


def test_core_alone_says_who_loads_it_and_that_loads_both_kinds(path, tmp_path):
    letters(path).save(tmp_path / "t")
    with pytest.raises(ValueError, match=r"keras_amalgam.teachers.load\(directory\)"):
        ka.Teacher.load(tmp_path / "t")
    model = teachers.from_onnx(path, verify=False)
    converted = ka.Teacher(model, "letters", CLASSES, tap="body", preprocessing=NORMAL)
    converted.save(tmp_path / "converted")
    again = teachers.load(tmp_path / "converted")
    assert type(again) is ka.Teacher
    assert again.card() == converted.card()


def test_weights_in_other_files_come_along(network, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(network, folder / "letters.onnx", **options)
    teacher = letters(folder / "letters.onnx")
    teacher.save(tmp_path / "t")
    shutil.rmtree(folder)
    assert_same_signals(teacher, teachers.load(tmp_path / "t"))
    weights = tmp_path / "t/network/weights.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="not that of its card"):
        teachers.load(tmp_path / "t")


def change_card(folder, **runtime):
    card = json.loads((folder / "card.json").read_text())
    card["runtime"] |= runtime
    (folder / "card.json").write_text(json.dumps(card))


def flip_a_bit(folder):
    file = folder / "network/letters.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "flipped bit": (flip_a_bit, ValueError, "not that of its card"),
    "gone": (lambda f: shutil.rmtree(f / "network"), FileNotFoundError, "No network at"),
    "added": (lambda f: (f / "network/x").write_text("x"), ValueError, "not that of its card"),
    "outside": (lambda f: change_card(f, file="../letters.onnx"), ValueError, "is damaged"),
    "no file": (lambda f: change_card(f, file=None), ValueError, "is damaged"),
    "no such output": (lambda f: change_card(f, output_name="x"), ValueError, "which output"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_directory_is_refused(damage, path, tmp_path):
    letters(path).save(tmp_path / "t")
    spoil, error, says = DAMAGES[damage]
    spoil(tmp_path / "t")
    with pytest.raises(error, match=says):
        teachers.load(tmp_path / "t")


def test_file_that_changed_since_it_was_opened_is_not_saved(path, tmp_path):
    teacher = letters(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="was changed after it was opened"):
        teacher.save(tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_what_does_not_fit_is_refused_at_construction(path):
    with pytest.raises(ValueError, match=r"does not read the tap 'stem'.*taps=\['stem'\]"):
        runtime = teachers.open_runtime(path, taps=["body"])
        ka.RuntimeTeacher(runtime, "letters", CLASSES, tap="stem", preprocessing=NORMAL)
    with pytest.raises(ValueError, match="Teacher 'letters'.*2 class"):
        teachers.runtime_teacher(path, "letters", ["a", "b"], preprocessing=NORMAL)
    with pytest.raises(ValueError, match="must be said how its images were normalised"):
        letters(path, preprocessing=None)
    with pytest.raises(ValueError, match="disagree.*Set size="):
        letters(path, preprocessing=ka.Preprocessing(size=(9, 9)))

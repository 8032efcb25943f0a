"""A teacher's directory: damage is named with file and field, other files are left alone."""

import json

import keras
import pytest

import keras_amalgam as ka
from keras_amalgam import teachers


@pytest.fixture
def teacher():
    inputs = keras.Input((9, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(5)(x))
    return ka.Teacher(model, "t", list("abcde"), tap="conv", preprocessing=ka.Preprocessing())


SAID = {"size": [9, 8], "mean": 0.0}


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("load", [teachers.load, ka.Teacher.load])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task", {}),
        ("task", 3),
        ("task", {"class_names": 5}),
        ("taps", {"features": {"foo": 1}}),
        ("taps", "conv"),
        ("preprocessing", {"foo": 1}),
        ("preprocessing", None),
        ("preprocessing", SAID | {"mean": "a"}),
        ("preprocessing", SAID | {"size": ["a", 2]}),
        ("provenance", {"a": 1}),
        ("provenance", {"source": "a"}),
        ("provenance", 3),
        ("outputs", 5),
        ("name", 5),
        ("weights_sha256", None),
    ],
    ids=str,
)
def test_damaged_card_is_named_with_its_field(load, field, value, teacher, tmp_path):
    teacher.save(tmp_path / "t")
    path = tmp_path / "t" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(ValueError, match=rf"card\.json is damaged at '{field}'"):
        load(tmp_path / "t")


def test_file_of_a_user_in_the_network_folder_keeps_a_teacher_from_being_replaced(
    teacher, tmp_path
):
    teacher.save(tmp_path / "t")
    (tmp_path / "t" / "network").mkdir()
    (tmp_path / "t" / "network" / "my_notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="Only an earlier result is ever replaced"):
        teacher.save(tmp_path / "t", overwrite=True)
    assert (tmp_path / "t" / "network" / "my_notes.txt").read_text() == "mine"


@pytest.mark.parametrize("has_notes", [False, True])
def test_runtime_teacher_is_replaced_only_if_its_network_is_its_own(has_notes, teacher, tmp_path):
    teacher.model.export(tmp_path / "saved", verbose=False)
    again = teachers.runtime_teacher(
        tmp_path / "saved", "t", list("abcde"), preprocessing=ka.Preprocessing()
    )
    again.save(tmp_path / "t")
    if has_notes:
        (tmp_path / "t" / "network" / "my_notes.txt").write_text("mine")
        with pytest.raises(FileExistsError, match="each as it was written"):
            teacher.save(tmp_path / "t", overwrite=True)
        assert (tmp_path / "t" / "network" / "my_notes.txt").exists()
    else:
        teacher.save(tmp_path / "t", overwrite=True)
        assert not (tmp_path / "t" / "network").exists()

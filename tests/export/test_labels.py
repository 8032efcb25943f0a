import zipfile

import pytest

from keras_amalgam import export
from keras_amalgam.export import labels
from keras_amalgam.export.signatures import describe


def test_labels_of_every_artifact_are_those_of_the_student(exported, class_names):
    for artifact in exported.artifacts.values():
        found = export.read_labels(artifact.path)
        assert list(found.items()) == list(class_names.items())


def test_labels_of_a_tflite_file_are_a_zip_that_others_can_read(exported):
    with zipfile.ZipFile(exported.folder / "student_int8.tflite") as archive:
        assert archive.testzip() is None
        lines = archive.read("labels_colour.txt").decode().splitlines()
    assert lines == ["red", "green", "blue", "grey"]


def test_labels_of_a_saved_model_lie_in_assets_extra(exported):
    folder = exported.folder / "student" / "assets.extra"
    assert sorted(file.name for file in folder.iterdir()) == [
        "labels.json",
        "labels_colour.txt",
        "labels_quadrant.txt",
    ]
    assert (folder / "labels_quadrant.txt").read_text().splitlines()[3] == "lower right"


def test_labels_come_from_the_model_unless_given(student, nested_student):
    assert labels.resolve(student, describe(student), None)["colour"][0] == "red"
    given = {"narrow": ["1", "2", "ß"], "wide": list("vwxyz")}
    resolved = labels.resolve(nested_student, describe(nested_student), given)
    assert list(resolved.items()) == [("wide", tuple("vwxyz")), ("narrow", ("1", "2", "ß"))]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (["a", "b"], TypeError, "Received: a list.*mapping from the heads"),
        ({"wide": list("abcde")}, ValueError, r"names for \['wide'\].*exactly"),
        ({"wide": list("abcd"), "narrow": "xyz"}, ValueError, "4 names for 5 units"),
        ({"wide": list("abcde"), "narrow": "xyz"}, TypeError, "'narrow' are not text"),
        ({"wide": range(5), "narrow": list("xyz")}, TypeError, "'wide' are not text"),
        ({"wide": list("abcde"), "narrow": ["x", "y\nz", "w"]}, ValueError, "'y.nz'"),
    ],
)
def test_labels_that_do_not_fit_are_refused(nested_student, given, error, message):
    with pytest.raises(error, match=message):
        labels.resolve(nested_student, describe(nested_student), given)


def test_missing_labels_are_refused_with_the_argument_to_pass(make_student):
    nameless = make_student()
    del nameless.class_names
    with pytest.raises(ValueError, match=r"class_names=None.*Pass `class_names=\{'quadrant'"):
        labels.resolve(nameless, describe(nameless), None)


def test_read_labels_refuses_a_file_without_labels(tmp_path, exported):
    for name in ("a.tflite", "a.keras"):
        (tmp_path / name).write_bytes(b"TFL3")
        with pytest.raises(ValueError, match="carries no labels"):
            export.read_labels(tmp_path / name)
    with pytest.raises(ValueError, match="carries no labels"):
        export.read_labels(exported.folder)
    with pytest.raises(ValueError, match="no artifact to read labels from"):
        export.read_labels(tmp_path / "missing.onnx")

"""Names: what TensorFlow, the artifacts and a labels file can carry, and nothing else."""

import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam.tasks.names import as_class_names, check_task_name


def test_allowed_task_name_with_every_sign_trains_a_student(make):
    name = "3.b-c_D"
    teacher = make.teacher(name, ["a", "b"])
    check_task_name(name)
    model = ka.Amalgamator(make.student([teacher]), [teacher], terms=[ka.SoftTargets()])
    model.compile("sgd")
    history = model.fit(make.images(8), batch_size=4, verbose=0).history
    assert f"soft_targets/{name}" in history


@pytest.mark.parametrize(
    ("name", "mended"),
    [
        ("my birds", "my_birds"),
        ("Vögel", "Vogel"),
        ("_birds", "birds"),
        ("-birds", "birds"),
        (".birds", "birds"),
        ("birds\n", "birds"),
        ("a/b", "a_b"),
        ("two\n lines", "two_lines"),
        (" image", "birds"),
        ("鳥", "birds"),
        ("", "birds"),
    ],
)
def test_task_name_that_tensorflow_cannot_carry_is_refused_with_one_it_can(name, mended):
    with pytest.raises(ValueError, match="ASCII letters, digits") as raised:
        check_task_name(name)
    assert f"Received: {name!r}." in str(raised.value)
    assert str(raised.value).endswith(f"Name it {mended!r}.")
    check_task_name(mended)


def test_name_of_a_students_input_is_no_task_name(make):
    student = make.student([make.teacher("a", ["x", "y"])])
    with pytest.raises(ValueError, match="must differ from the name of a student's input"):
        check_task_name(student.input.name)


@pytest.mark.parametrize("name", [3, None, b"birds"])
def test_task_name_of_another_type_is_refused(name):
    with pytest.raises(TypeError, match=f"must be a string. Received: {name!r} of type"):
        check_task_name(name)


@pytest.mark.parametrize(
    "names", [["a", " b c"], ("a", " b c"), np.array(["a", " b c"]), iter(["a", " b c"])], ids=type
)
def test_class_names_of_any_sequence_become_plain_text(names):
    given = as_class_names(names)
    assert given == ("a", " b c")
    assert [type(name) for name in given] == [str, str]


@pytest.mark.parametrize(
    "names",
    ["ab", None, 3, {"a", "b"}, {"a": 0, "b": 1}, [1, "b"], [b"a", "b"], np.array([["a", "b"]])],
    ids=type,
)
def test_class_names_that_are_no_sequence_of_strings_are_refused(names):
    with pytest.raises(TypeError, match="must be .*strings. Received: .* of type"):
        as_class_names(names)


@pytest.mark.parametrize(
    "name", ["", " ", "a\nb", "a\n", "\na", "a\r", "a\x0b", "a\u2028b", "\udce4"]
)
def test_class_name_that_no_labels_file_carries_is_refused(name):
    with pytest.raises(ValueError, match="must fit on the lines of a labels file") as raised:
        as_class_names(["c", name])
    assert f"Received: {name!r} among them." in str(raised.value)

"""The command's function, and what its settings reach."""

import dataclasses
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from PIL import Image

import keras_amalgam as ka
from keras_amalgam.choices import NUMBERS
from keras_amalgam.cli import amalgamate as command
from keras_amalgam.cli import demo, run, run_flags
from keras_amalgam.experiments import Recipe, arguments, job, own_teachers
from keras_amalgam.experiments.amalgamate import DEFAULTS, Run, recipe_of
from keras_amalgam.experiments.unlabelled import unlabelled_images
from keras_amalgam.training.epoch_numbers import epoch_numbers
from keras_amalgam.training.guards import source_names


@pytest.fixture
def inputs(teachers, make, tmp_path):
    """Saved teachers, and their collections of grey photographs."""
    for number, teacher in enumerate(teachers):
        teacher.save(tmp_path / teacher.name)
        (tmp_path / "photos" / teacher.name).mkdir(parents=True)
        for index, image in enumerate(make.images(8, size=20, seed=number)):
            Image.fromarray(image[..., 0]).save(tmp_path / "photos" / teacher.name / f"{index}.bmp")
    return tmp_path


@pytest.fixture
def recipe(inputs):
    """A recipe on the inputs, with further choices."""

    def make(**choices):
        folders = [inputs / "digits", inputs / "shapes"]
        small = {"size": (16, 16), "channels": 1, "batch_size": 4, "epochs": 1}
        settings = {**DEFAULTS, **small, **choices}
        return recipe_of(folders, inputs / "photos", None, lambda line: None, settings)

    return make


@pytest.mark.slow
def test_function_leaves_what_the_command_does(inputs, teachers):
    folders = [inputs / "digits", teachers[1]]
    made = ka.amalgamate(
        folders, inputs / "photos", inputs / "out", size=16, channels=1, batch_size=4, epochs=1
    )
    assert made.report.student.ownership == "source"
    assert (made.folder / "student_int8.tflite").exists()
    answers = made.student.predict(np.zeros((2, 20, 20, 1)), verbose=0)
    assert {task: answer.shape for task, answer in answers.items()} == {
        "digits": (2, 3), "shapes": (2, 2),
    }  # fmt: skip


def test_precision_is_the_students_and_no_one_elses(recipe):
    made = recipe(dtype_policy="mixed_bfloat16")
    student = made.student()
    assert student.dtype_policy.name == "mixed_bfloat16"
    assert {weight.dtype for weight in student.weights} == {"float32"}
    assert {weight.dtype for one in made.teachers for weight in one.model.weights} == {"float32"}
    assert recipe().student().dtype_policy.name == "float32"


def test_workers_read_the_images_whose_order_and_sources_stay_known(recipe):
    stream = recipe(workers=3).streams["train"]
    assert stream.options().threading.private_threadpool_size == 3
    assert len(epoch_numbers(stream)) == 1
    assert source_names(stream) == ("digits", "shapes")


def test_unlabelled_images_are_the_same_whatever_was_read_before(recipe):
    """Or a package would hang on whether its process has trained."""
    made = recipe()
    images, sources = unlabelled_images(made, 12)
    later = np.concatenate([batch["image"] for batch in made.streams["calibration"]])
    assert not np.array_equal(images, np.rint(later)[:12]), "Each pass has an order of its own."
    again, same = unlabelled_images(made, 12)
    np.testing.assert_array_equal(again, images)
    np.testing.assert_array_equal(same, sources)


def test_student_that_is_not_packaged_is_missed_in_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="not packaged yet.*without `only`"):
        assert Run(tmp_path, None).student


def test_other_picture_of_the_same_size_is_other_data(recipe, inputs):
    before = recipe().made_from
    assert recipe().made_from == before
    path = inputs / "photos" / "digits" / "0.bmp"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(bytes(content))
    assert recipe().made_from["names_sizes_and_ends"] != before["names_sizes_and_ends"]


def test_streams_are_made_when_they_are_asked_for_also_of_a_changed_recipe(recipe, monkeypatch):
    made = []
    stream = own_teachers.data.stream
    monkeypatch.setattr(
        own_teachers.data, "stream", lambda *a, **k: made.append(1) or stream(*a, **k)
    )
    changed = dataclasses.replace(recipe(), name="other")
    assert not made
    assert isinstance(changed.streams["train"], tf.data.Dataset)
    assert isinstance(changed.streams["train"], tf.data.Dataset) and len(made) == 1
    assert isinstance(changed, Recipe)


NOWHERE = ["nowhere/digits", "nowhere/shapes"], "nowhere/photos"


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("epochs", (0, 2.5, True, "3"), "a whole number, at least 1, or None."),
        ("batch_size", (0, 1, 4.0), "a whole number, at least 2."),
        (
            "learning_rate",
            (np.nan, np.inf, 10**400, -1e-3, "big"),
            "a finite number, at least 0, or None.",
        ),
        ("temperature", (0, -1, np.nan), "a finite number, at least 0.01, or None."),
        ("common_features", (-0.1, np.nan, True), "a finite number, at least 0, or None."),
        ("seed", (-1, 1.5, None, 2**32), "a whole number, at least 0, at most 4294967295."),
        ("steps", (0, 2.5), "a whole number, at least 1, or None."),
        ("workers", (0, -1, "all"), "a whole number, at least 1, or None."),
        ("size", ("big", (0, 32), 7, (32, 32, 3), 32.5, (), True), "a side or (height, width)"),
        ("canvas", ("big", 32, (0, 32), (32, 32, "crap"), (32, 32, 3)), "(height, width) or"),
        ("channels", (2, 0, "3", True), "1 for grey images or 3 for RGB."),
        ("ownership", ("mine", 3, ["joint"]), "one of ['joint', 'per_task', 'source'], or None"),
        ("dtype_policy", ("float64", None, 16), "one of ['float32', 'mixed_bfloat16', "),
        ("flip", ("no", None, 1), "True or False."),
        ("student", (None, 5), "'compact', a class of keras.applications, or the path of a"),
        ("weights", (5, ["imagenet"]), "'imagenet', 'none', the path of a file, or None"),
    ],
)
def test_value_that_no_run_takes_is_refused_before_anything_is_read(
    tmp_path, teachers, name, values, expected
):
    for value in values:
        with pytest.raises(ValueError) as refused:
            ka.amalgamate(*NOWHERE, tmp_path / "out", **{name: value})
        begin = f"`{name}` is not right. Received: {name}={value!r:.80}. Expected: {expected}"
        assert str(refused.value).startswith(begin)
        with pytest.raises(ValueError) as below:
            settings = {**DEFAULTS, "size": None, "channels": 3, name: value}
            own_teachers.recipe(teachers, Path("nowhere"), {}, **settings)
        assert str(below.value) == str(refused.value)
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_are_taken_as_pythons():
    given = {"epochs": np.int64(3), "learning_rate": np.float32(0.5), "size": np.int64(32)}
    given |= {"canvas": (np.int64(32), 40, "pad"), "workers": None, "learning_rate": 1}
    arguments.check_choices(given)
    taken = arguments.plain(given)
    assert taken == {
        "epochs": 3,
        "learning_rate": 1.0,
        "size": (32, 32),
        "canvas": (32, 40, "pad"),
        "workers": None,
    }
    numbers = (taken["epochs"], *taken["size"], *taken["canvas"][:2])
    assert {type(number) for number in numbers} == {int}


@pytest.mark.parametrize("value", ["t/cars", Path("t/cars"), b"t/cars", {"cars": "t/cars"}, None])
def test_teachers_that_are_no_list_are_refused(value):
    with pytest.raises(TypeError, match=r"must be a list of teachers or folders. Received: \w+ "):
        ka.amalgamate(value, "photos", "out")


def test_list_without_teachers_or_with_something_else_in_it_is_refused():
    with pytest.raises(ValueError, match="At least one teacher is needed"):
        ka.amalgamate([], "photos", "out")
    with pytest.raises(TypeError, match="Received: int 3 in it"):
        ka.amalgamate(["cars/", 3], "photos", "out")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epoch": 1}, "has no argument 'epoch'. Did you mean 'epochs'? Received: epoch=1."),
        ({"test": {}}, "has no argument 'test'. Did you mean 'tests'?"),
        ({"xyz": 1}, "has no argument 'xyz'. Received: xyz=1. Expected: some of ['teachers', "),
        *(
            ({field.name: 1}, f"Pass it in `settings=job.Settings({field.name}=…)`")
            for field in dataclasses.fields(job.Settings)
        ),
    ],
    ids=str,
)
def test_unknown_argument_is_refused_in_the_name_of_the_function_called(given, said):
    with pytest.raises(TypeError) as refused:
        ka.amalgamate(*NOWHERE, "out", **given)
    assert str(refused.value).startswith("amalgamate() has no argument '")
    assert said in str(refused.value)


def test_tests_and_settings_of_another_type_are_refused():
    with pytest.raises(TypeError, match=r"`tests` must say which teacher .* Received: 'test/'"):
        ka.amalgamate(*NOWHERE, "out", tests="test/")
    with pytest.raises(
        TypeError, match=r"`settings` must be a job.Settings. Received: {'keep': 1}"
    ):
        ka.amalgamate(*NOWHERE, "out", settings={"keep": 1})


def parsed(module, *words):
    values = flags.FlagValues()
    module.define_flags(values)
    values(["keras-amalgam", *words])
    return values


def test_function_and_command_have_the_same_defaults():
    values = parsed(command)
    assert {name: values[name].value for name in DEFAULTS} == DEFAULTS
    arguments = inspect.signature(ka.amalgamate).parameters
    assert arguments["size"].default is values.size is None
    assert arguments["channels"].default == values.channels
    recipes = inspect.signature(own_teachers.recipe).parameters
    for name in ("seed", "dtype_policy", "workers", "steps"):
        assert recipes[name].default == values[name].value, name


@pytest.mark.parametrize("module", [command, demo])
def test_function_and_command_have_the_same_bounds(module):
    values = parsed(module)
    known = [name for name in NUMBERS if name in values]
    assert known == list(NUMBERS) if module is command else {"seed", "epochs"} <= {*known}
    for name in known:
        parser = values[name].parser
        assert (parser.lower_bound, parser.upper_bound) == NUMBERS[name].ends, name
        assert parser.flag_type() == NUMBERS[name].kind.__name__, name


@pytest.mark.parametrize(
    ("module", "name", "words"),
    [
        (command, "amalgamate", ["--teacher=a", "--teacher=b", "--images=c", "--size=32,48",
                                 "--noflip", "--hours=0.5", "--ownership=joint"]),
        (demo, "demo", ["--full", "--seed=3", "--epochs=2"]),
        (run, "run", ["--set=seed=3"]),
    ],
)  # fmt: skip
def test_run_json_gives_the_command_every_flag_again(tmp_path, module, name, words):
    values = parsed(module, *words, "--out=first", "--only=report")
    told = {"command": name, "arguments": ["a"], "flags": run_flags.resolved(values)}
    (tmp_path / "run.json").write_text(json.dumps(told))
    again = parsed(run, "--out=second")
    found = run._Told.read(tmp_path / "run.json")
    flags_again = found.flags(again)
    assert found.command is module and found.arguments == ["a"]
    assert run_flags.resolved(flags_again) == run_flags.resolved(values)
    assert (flags_again.out, flags_again.only) == (str(Path("second").resolve()), None)

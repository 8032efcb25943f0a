"""A recipe from start to end, small; and what becomes of it when something fails."""

import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam import data, export
from keras_amalgam.methods import Method, Stage, cosine_adamw
from keras_amalgam.recipes import Recipe, job
from keras_amalgam.recipes.recipe import load
from keras_amalgam.terms import CommonFeatures, SoftTargets


def both():
    return [SoftTargets(ownership="source"), CommonFeatures(units=2, weight=0.1)]


@pytest.fixture
def recipe(teachers, make):
    images = {"image": make.images(32), "source": np.arange(32, dtype="int32") % 2}
    stage = Stage(both, 1, cosine_adamw(1e-2))
    without = Stage(lambda: both()[:1], 1, cosine_adamw(1e-2))
    untaught = Stage(lambda: both()[1:], 1, cosine_adamw(1e-2))
    blind = Stage(lambda: [SoftTargets("per_task")], 1, cosine_adamw(1e-2))
    test = {
        teacher.name: tf.data.Dataset.from_tensor_slices(
            (make.images(24, seed=n), np.arange(24) % len(teacher.class_names))
        ).batch(8)
        for n, teacher in enumerate(teachers)
    }
    return Recipe(
        name="tiny",
        teachers=teachers,
        student=lambda: make.student(teachers),
        student_tap="student_map",
        streams={"train": tf.data.Dataset.from_tensor_slices(images).batch(8)},
        evaluation=test,
        methods=[
            Method("main", (stage, stage)),
            Method("all", (stage,)),
            Method("without", (without,), removes="common_features"),
            Method("untaught", (untaught,), removes="soft_targets"),
            Method("blind", (blind,)),
        ],
    )


def test_a_job_leaves_everything_a_person_can_use(recipe, make, teachers, tmp_path):
    said = []
    report = job.run(recipe, tmp_path / "out", say=said.append)
    out = tmp_path / "out"
    files = {path.name for path in out.iterdir()}
    assert {
        "student.keras", "saved_model", "student.tflite", "student_int8.tflite", "student.onnx",
        "student.labels.json", "report.json", "report.html", "logs",
    } <= files  # fmt: skip
    assert json.loads((out / "report.json").read_text())["tasks"].keys() == {"digits", "shapes"}
    assert list(tmp_path.iterdir()) == [out]
    assert export.read_labels(out / "student_int8.tflite")["shapes"] == ("circle", "square")
    assert len(report["history"]["loss"]) == 2  # Two stages of one epoch.
    removed = [entry["removed"] for entry in report["ablation"]]
    assert removed == [None, "common_features", "soft_targets"]
    assert report["joint_accuracy"]["source_blind"] is not None
    assert any("student %" in text for text in said)
    _check_accuracies(report, make, teachers, tmp_path)


def _check_accuracies(report, make, teachers, tmp_path):
    """Those reported are those of the file: in a process that has only Keras, by hand."""
    for number, teacher in enumerate(teachers):
        np.save(tmp_path / f"{teacher.name}.npy", make.images(24, seed=number))
    code = f"""
import sys; sys.modules["keras_amalgam"] = None
import json, keras, numpy as np
model = keras.saving.load_model(r"{tmp_path}/out/student.keras")
right = {{}}
for task, classes in (("digits", 3), ("shapes", 2)):
    logits = model.predict(np.load(rf"{tmp_path}/{{task}}.npy"), verbose=0)[task]
    right[task] = float((logits.argmax(1) == np.arange(24) % classes).mean())
print(json.dumps(right))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for task, accuracy in json.loads(done.stdout.splitlines()[-1]).items():
        assert report["tasks"][task]["student_accuracy"] == pytest.approx(accuracy)


@pytest.mark.usefixtures("verified_here")
def test_finer_precision_takes_the_place_of_int8_that_decides_otherwise(
    recipe, tmp_path, monkeypatch
):
    nothing_keeps = export.Thresholds(max_error=0.0)
    monkeypatch.setattr("keras_amalgam.recipes.package.LIMITS", nothing_keeps)
    recipe = dataclasses.replace(recipe, methods=recipe.methods[:1])
    report = job.run(recipe, tmp_path / "out", say=lambda text: None)
    files = {path.name for path in (tmp_path / "out").glob("*.tflite")}
    assert files == {"student.tflite", "student_float16.tflite"}
    said = " ".join(report["notes"])
    for passed_over in ("student_int8.tflite", "student_int16.tflite"):
        assert f"student_float16.tflite stands for {passed_over}" in said
    assert "student_float16.tflite: Task" in said  # Not even that one keeps it, and that is said.
    page = (tmp_path / "out" / "report.html").read_text()
    assert "stands for student_int8.tflite" in page
    page = (tmp_path / "out" / "export.html").read_text()
    assert "Thresholds that are missed stand below." in page
    assert "<b>student_float16.tflite</b> misses a threshold" in page


def test_a_failing_job_leaves_nothing_and_keeps_the_earlier_result(recipe, teachers, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("earlier")
    dense = teachers[0].model.layers[-1]
    dense.bias.assign(np.full(3, np.nan))
    with pytest.raises(FloatingPointError):
        job.run(recipe, tmp_path / "out", overwrite=True, say=lambda text: None)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "report.json").read_text() == "earlier"
    with pytest.raises(FileExistsError):
        job.run(recipe, tmp_path / "out", say=lambda text: None)


def test_a_job_replaces_only_an_earlier_result(recipe, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "holiday.png").write_text("mine")
    said = []
    with pytest.raises(FileExistsError, match="Only an earlier result"):
        job.run(recipe, tmp_path / "out", overwrite=True, say=said.append)
    assert not said  # Nothing was trained.
    assert (tmp_path / "out" / "holiday.png").read_text() == "mine"


def test_a_recipe_without_what_it_needs_is_refused(recipe):
    with pytest.raises(ValueError, match=r"streams\['train'\]"):
        Recipe("x", recipe.teachers, recipe.student, "map", {}, {}, recipe.methods)
    with pytest.raises(ValueError, match="no teacher has"):
        Recipe(
            "x", recipe.teachers, recipe.student, "map", recipe.streams, {"cats": None},
            recipe.methods,
        )  # fmt: skip


def test_test_images_for_some_tasks_only_are_refused(recipe):
    some = {"digits": recipe.evaluation["digits"]}
    with pytest.raises(ValueError, match=r"Missing: \['shapes'\]"):
        dataclasses.replace(recipe, evaluation=some)


@pytest.mark.parametrize("names", [("0", "2", "1"), ("0", "1"), ("a", "b", "c")])
def test_test_images_of_other_class_names_than_the_teachers_are_refused(recipe, make, names):
    labels = np.arange(4) % len(names)
    images = data.labelled_from_arrays(make.images(4), labels, class_names=names)
    evaluation = {**recipe.evaluation, "digits": images}
    with pytest.raises(ValueError) as refused:
        dataclasses.replace(recipe, evaluation=evaluation)
    assert f"Received: class names {list(names)}" in str(refused.value)
    assert "Expected: ['0', '1', '2']" in str(refused.value)


def test_photographs_without_test_images_or_of_other_classes_are_refused(recipe, make):
    def photographs(names):
        labels = np.arange(4) % len(names)
        return data.labelled_from_arrays(make.images(4), labels, class_names=names, batch_size=1)

    right = {"digits": photographs(("0", "1", "2"))}
    assert dataclasses.replace(recipe, photographs=right).photographs == right
    with pytest.raises(ValueError, match="number the classes otherwise"):
        dataclasses.replace(recipe, photographs={"digits": photographs(("0", "2", "1"))})
    with pytest.raises(ValueError, match=r"without test images. Received: photographs of \['dig"):
        dataclasses.replace(recipe, evaluation={}, photographs=right)


@pytest.mark.parametrize("names", [("0", "1", "2"), None])
def test_test_images_of_the_teachers_class_names_or_none_are_taken(recipe, make, names):
    images = data.labelled_from_arrays(make.images(4), np.arange(4) % 3, class_names=names)
    evaluation = {**recipe.evaluation, "digits": images}
    assert dataclasses.replace(recipe, evaluation=evaluation).evaluation["digits"] is images


def test_an_unknown_recipe_lists_the_shipped_ones_that_run():
    with pytest.raises(ValueError, match=r"or one of \['digits_fashion'\]"):
        load("no_such_recipe")


def test_a_recipe_that_needs_arguments_is_refused_naming_them():
    with pytest.raises(ValueError, match=r"must need no argument. Received: .*teachers, images"):
        load("own_teachers")


def test_demo_student_is_at_most_a_quarter_of_the_teachers():
    from keras_amalgam.recipes import digits_fashion

    recipe = digits_fashion.recipe()
    teachers = sum(teacher.count_params() for teacher in recipe.teachers)
    student = recipe.student()
    assert student.count_params() <= teachers / 4
    assert set(student.output) == {"digits", "fashion"}
    assert isinstance(recipe.teachers[0].model, keras.Model)

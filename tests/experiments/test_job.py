"""A recipe from start to end, small; and what becomes of it when something fails."""

import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amalgam as ka
from keras_amalgam import data, export
from keras_amalgam.experiments import Recipe, comparisons, first_look, job, plan
from keras_amalgam.experiments.recipe import load
from keras_amalgam.report import (
    AblationRun,
    ComparedOwnership,
    JobSeconds,
    JointAccuracy,
    Report,
    StudentResult,
    TaskResult,
    TeachersResult,
)

PAD = [[0, 0], [1, 1], [1, 1], [0, 0]]  # A pixel at each side of a batch's images.


@pytest.fixture
def int8_passes(monkeypatch):
    """A student of eight steps decides by a hair, which int8 may split; it is shipped anyway."""
    monkeypatch.setattr("keras_amalgam.experiments.package.LIMITS", export.Thresholds())


@pytest.mark.slow
@pytest.mark.usefixtures("int8_passes")
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
    assert Report.from_dict(json.loads((out / "report.json").read_text())) == report
    assert len(report.history["loss"]) == 2  # Two stages of one epoch.
    trained = [(run.method, run.removed) for run in report.ablation]
    removed = [("without", "common_features"), ("untaught", "soft_targets")]
    assert trained == [("all", None), *removed]
    (blind,) = report.joint_accuracy.compared
    assert (blind.method, blind.ownership) == ("blind", "per_task") and blind.accuracy is not None
    assert (report.student.method, report.student.ownership) == ("main", "source")
    tested = {name: one.precision for name, one in report.artifacts.items() if one.accuracy}
    assert tested == {"student_int8.tflite": "int8"}
    assert set(report.artifacts) == files & set(report.artifacts)
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
        assert report.tasks[task].student_accuracy == pytest.approx(accuracy)


@pytest.mark.slow
@pytest.mark.usefixtures("verified_here")
def test_finer_precision_takes_the_place_of_int8_that_decides_otherwise(
    recipe, tmp_path, monkeypatch
):
    nothing_keeps = export.Thresholds(max_error=0.0)
    monkeypatch.setattr("keras_amalgam.experiments.package.LIMITS", nothing_keeps)
    recipe = dataclasses.replace(recipe, methods=recipe.methods[:1])
    report = job.run(recipe, tmp_path / "out", say=lambda text: None)
    files = {path.name for path in (tmp_path / "out").glob("*.tflite")}
    assert files == {"student.tflite", "student_float16.tflite"}
    said = " ".join(report.notes)
    written = report.artifacts["student_float16.tflite"]
    assert (written.format, written.precision) == ("tflite", "float16")
    assert written.instead_of == ("student_int8.tflite", "student_int16.tflite")
    assert set(written.accuracy) == {"digits", "shapes"}
    assert written.latency_beside_teachers_ms > 0
    assert "int8" not in json.dumps(dataclasses.asdict(report.tasks["digits"]))
    for passed_over in ("student_int8.tflite", "student_int16.tflite"):
        assert f"student_float16.tflite stands for {passed_over}" in said
    assert "student_float16.tflite: Task" in said  # Not even that one keeps it, and that is said.
    page = (tmp_path / "out" / "report.html").read_text()
    assert "stands for student_int8.tflite" in page
    assert "float16, %" in page and "student, TFLite float16" in page
    assert "int8, %" not in page and "TFLite int8" not in page
    page = (tmp_path / "out" / "export.html").read_text()
    assert "Thresholds that are missed stand below." in page
    assert "<b>student_float16.tflite</b> misses a threshold" in page


def _blind_report(recipe):
    """The report of a student that was trained without its images' collections."""
    task = TaskResult(
        num_test_images=24,
        teacher_own_pipeline_accuracy=None,
        teacher_canvas_accuracy=0.5,
        student_accuracy=0.5,
        agreement=None,
    )
    return Report(
        recipe="blind",
        tasks={teacher.name: task for teacher in recipe.teachers},
        joint_accuracy=JointAccuracy(student=0.125, teachers=None),
        teachers=TeachersResult(parameters=1, bytes=None, latency_ms=None),
        student=StudentResult(method="main", ownership="per_task", parameters=1),
        artifacts={},
        seconds=JobSeconds(amalgamate=None, total=None),
        settings={},
        versions={},
    )


def test_comparisons_leave_the_students_own_joint_accuracy_and_say_who_was_trained(recipe):
    accuracy = {teacher.name: 0.5 for teacher in recipe.teachers}
    sources = ComparedOwnership(method="sources", ownership="source", accuracy=0.75)
    full = AblationRun(
        method="all", removed=None, task_accuracy=accuracy, joint_accuracy=0.25, gradient_norms={}
    )
    report = comparisons.added(_blind_report(recipe), [sources, None, full])
    assert report.joint_accuracy.student == 0.125
    assert report.joint_accuracy.compared == (sources,)
    assert report.ablation == (full,)
    assert comparisons.added(_blind_report(recipe), [None]).ablation is None


def test_a_recipe_without_what_it_needs_is_refused(recipe):
    with pytest.raises(ValueError, match=r"streams\['train'\]"):
        Recipe("x", recipe.teachers, recipe.student, "map", {}, {}, recipe.methods)
    with pytest.raises(ValueError, match="no teacher has"):
        Recipe(
            "x", recipe.teachers, recipe.student, "map", recipe.streams, {"cats": None},
            recipe.methods,
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("verified_here", "int8_passes")
def test_test_images_of_some_teachers_measure_those_and_the_rest_is_said_not_to_be_run(
    recipe, tmp_path
):
    some = {"digits": recipe.evaluation["digits"]}
    recipe = dataclasses.replace(recipe, evaluation=some, methods=recipe.methods[:2])
    said = []
    report = job.run(recipe, tmp_path / "out", say=said.append)
    digits, shapes = report.tasks["digits"], report.tasks["shapes"]
    model = keras.saving.load_model(tmp_path / "out" / "student.keras")
    pairs = [(model.predict_on_batch(x)["digits"].argmax(1), y) for x, y in some["digits"]]
    right = np.mean([np.mean(answers == y) for answers, y in pairs])
    assert digits.student_accuracy == pytest.approx(right) and digits.num_test_images == 24
    assert None not in (digits.teacher_canvas_accuracy, digits.agreement)
    unknown = dict.fromkeys(field.name for field in dataclasses.fields(shapes))
    assert dataclasses.asdict(shapes) == {**unknown, "num_test_images": 0}
    accuracy = report.artifacts["student_int8.tflite"].accuracy
    assert accuracy["digits"] is not None and accuracy["shapes"] is None
    assert (report.joint_accuracy.student, report.joint_accuracy.teachers) == (None, None)
    assert report.confusion_matrix is None
    assert list(report.common_space.class_retrieval) == ["digits"]
    (ablation,) = report.ablation
    assert ablation.task_accuracy["shapes"] is None is ablation.joint_accuracy
    assert ablation.task_accuracy["digits"] is not None
    (note,) = [note for note in report.notes if "No test images of shapes" in note]
    assert "no joint accuracy, which needs the test images of every teacher" in note
    assert note in said
    (row,) = [line for line in "\n".join(said).splitlines() if line.startswith("shapes ")]
    assert row.split()[1:] == ["not", "run"] * 4 + ["0"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "tested on 24 labelled images, none of them of shapes." in page
    assert "It needs test images of every task, and there were none of shapes." in page
    assert "All 24 test images; nobody" not in page
    assert "digits test image" in page and "shapes test image" not in page


@pytest.mark.slow
@pytest.mark.usefixtures("verified_here")
def test_teacher_whose_answers_contradict_logits_is_warned_of_before_the_training(
    recipe, teachers, make, tmp_path
):
    inputs = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="map")(inputs)
    numbers = keras.layers.Dense(2, bias_initializer=keras.initializers.Constant([30.0, 31.0]))
    model = keras.Model(inputs, numbers(keras.layers.GlobalAveragePooling2D()(x)))
    normal = ka.Preprocessing(size=(12, 12))
    box = ka.Teacher(model, "shapes", ["row", "column"], tap="map", preprocessing=normal)
    both = [teachers[0], box]
    stream = tf.data.Dataset.from_tensor_slices(make.images(64)).batch(8)
    recipe = dataclasses.replace(
        recipe, teachers=both, student=lambda: make.student(both), evaluation={},
        streams={"train": stream},
        methods=recipe.methods[-1:],
    )  # fmt: skip
    said = []
    report = job.run(recipe, tmp_path / "out", say=said.append)
    doubt = "Teacher 'shapes' may not return logits: all of its answers to 64 images are positive"
    assert said[0].startswith(f"Warning: {doubt}") and said[1].startswith("Training")
    assert [note for note in report.notes if doubt in note] == said[:1]


def test_teacher_is_judged_by_the_images_of_its_own_collection(recipe, teachers, monkeypatch):
    """In a stream of two collections, each teacher is asked about its own."""
    images = {"image": np.zeros((128, 12, 12, 1), "uint8"), "source": np.arange(128) % 2}
    images["image"][1::2] = np.arange(64).reshape(-1, 1, 1, 1)
    stream = tf.data.Dataset.from_tensor_slices(images).batch(16)
    recipe = dataclasses.replace(recipe, streams={"train": stream})
    asked = {}

    def remember(teacher, logits):
        asked[teacher.name] = logits

    monkeypatch.setattr(first_look, "doubt", remember)
    assert first_look.doubts(recipe) == []
    dark, bright = (np.unique(logits, axis=0) for logits in asked.values())
    assert (len(dark), len(bright)) == (1, 64)


@pytest.mark.matrix
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


@pytest.mark.parametrize(
    "given",
    [[keras.callbacks.Callback()], (), keras.callbacks.Callback(), keras.callbacks.Callback, None],
    ids=["a list", "a tuple", "a callback", "a class", "None"],
)
def test_callbacks_that_nothing_makes_are_refused_before_any_training(given):
    with pytest.raises(TypeError, match=r"a function that .*`callbacks=lambda: \[callback\]`"):
        job.Settings(callbacks=given)


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"minutes": -1}, {"minutes": np.nan}], ids=str)
def test_states_that_cannot_be_kept_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"Received: .*{name}={wrong[name]}"):
        job.Settings(**wrong)


def test_an_unknown_recipe_lists_the_shipped_ones_that_run():
    with pytest.raises(ValueError, match=r"or one of \['digits_fashion'\]"):
        load("no_such_recipe")


def test_a_recipe_that_needs_arguments_is_refused_naming_them():
    with pytest.raises(ValueError, match=r"needs the arguments teachers, images"):
        load("own_teachers")


@pytest.mark.slow
def test_demo_student_is_at_most_a_quarter_of_the_teachers():
    from keras_amalgam.experiments import digits_fashion

    recipe = digits_fashion.recipe()
    teachers = sum(teacher.count_params() for teacher in recipe.teachers)
    student = recipe.student()
    assert student.count_params() <= teachers / 4
    assert set(student.output) == {"digits", "fashion"}
    assert isinstance(recipe.teachers[0].model, keras.Model)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("unlabelled", "Evaluation needs labelled images"),
        ("batched twice", r"don't fit. Received: shapes \(1, 8, 12, 12, 1\)"),
        ("a label too many", "labels 0 to 3 for 3 classes"),
        ("another size", r"Received: images of \(14, 14, 1\). Expected: \(12, 12, 1\)"),
        ("none", "no batch"),
    ],
)
def test_test_images_that_cannot_be_evaluated_are_refused_before_the_training(
    recipe, make, tmp_path, fault, message
):
    pairs = recipe.evaluation["digits"]
    faulty = {
        "unlabelled": pairs.map(lambda images, labels: images),
        "batched twice": pairs.batch(1),
        "a label too many": pairs.map(lambda images, labels: (images, tf.range(8) % 4)),
        "another size": pairs.map(lambda images, labels: (tf.pad(images, PAD), labels)),
        "none": pairs.take(0),
    }[fault]
    recipe = dataclasses.replace(recipe, evaluation={**recipe.evaluation, "digits": faulty})
    with pytest.raises(ValueError, match=f"The test images of 'digits' .*{message}"):
        job.run(recipe, tmp_path / "out", say=lambda line: None)
    assert not (tmp_path / "out" / "training").exists()
    with pytest.raises(ValueError, match=f"The test images of 'digits' .*{message}"):
        plan.plan(recipe, tmp_path / "planned", 3, lambda line: None)


def test_stream_with_labels_is_refused_before_the_training_and_by_its_name(recipe, make, tmp_path):
    labelled = tf.data.Dataset.from_tensor_slices((make.images(16), np.zeros(16))).batch(8)
    recipe = dataclasses.replace(recipe, streams={"train": labelled})
    with pytest.raises(ValueError, match="labels") as refused:
        job.run(recipe, tmp_path / "out", say=lambda line: None)
    assert "test images" not in str(refused.value)


def test_photographs_whose_labels_are_no_classes_are_refused_before_the_training(
    recipe, make, tmp_path
):
    labelled = tf.data.Dataset.from_tensor_slices((make.images(4), [0, 1, 2, 3])).batch(4)
    recipe = dataclasses.replace(recipe, photographs={"digits": labelled})
    with pytest.raises(ValueError, match="The test photographs of 'digits' .*labels 0 to 3 for 3"):
        job.run(recipe, tmp_path / "out", say=lambda line: None)
    assert not (tmp_path / "out" / "training").exists()

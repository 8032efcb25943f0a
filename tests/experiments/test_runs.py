"""A run that is interrupted, fails or is given again: what is kept, and what is done again."""

import dataclasses
import json
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam import data, export
from keras_amalgam.experiments import job, package
from keras_amalgam.experiments.made_from import of_weights
from keras_amalgam.report import ArtifactResult
from keras_amalgam.training.interruption import Interrupted

pytestmark = pytest.mark.usefixtures("lightly_packaged", "eagerly")


@pytest.fixture
def lightly_packaged(monkeypatch):
    """One artifact, unverified: all of them, which take most of a run, are for test_job.py."""

    def pack(student, recipe, folder):
        written = export.to_keras(student, folder / package.KERAS)
        size = written.bytes
        result = ArtifactResult(
            format="keras", precision="float32", bytes=size, latency_ms=None, max_abs_error=None,
            tolerance=None, min_agreement=None, num_images=None,
        )  # fmt: skip
        return package.Packaged({package.KERAS: result}, 1.0, [])

    monkeypatch.setattr(package, "package", pack)


@pytest.fixture
def one(recipe, make):
    """A recipe of one method, on a stream whose order is another in every epoch."""
    images = data.stream(
        {
            "digits": data.from_arrays(make.images(20)),
            "shapes": data.from_arrays(make.images(20, seed=1)),
        },
        batch_size=8,
        augmentation=data.Augmentation(flip=True),
    )
    return dataclasses.replace(recipe, methods=recipe.methods[:1], streams={"train": images})


@pytest.fixture
def go(one, tmp_path):
    """Runs the recipe in a folder; gives the report and what was said."""

    def go(recipe=one, name="out", **settings):
        said = []
        report = job.run(recipe, tmp_path / name, job.Settings(**settings), say=said.append)
        return report, "\n".join(said)

    return go


def times_of(folder):
    """When each file was written, but for the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".run.lock"]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def student_of(folder):
    return of_weights(keras.saving.load_model(folder / "student.keras"))


@pytest.fixture
def stopping(stop_at):
    """What makes the callbacks of every stage: one that counts through all of them."""

    def stopping(step, number):
        stop = stop_at(step, number)
        return lambda: [stop]

    return stopping


@pytest.fixture
def whole(go, tmp_path):
    """An unbroken run."""
    report, _ = go(name="whole")
    return report, student_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, 7), (signal.SIGINT, 3)])
def test_run_that_was_told_to_end_goes_on_as_if_it_had_not_been(
    go, stopping, whole, tmp_path, number, step
):
    with pytest.raises(Interrupted):
        go(callbacks=stopping(step, number))
    assert not (tmp_path / "out" / "student.keras").exists()
    report, said = go()
    assert "Training the student goes on: main" in said
    assert report.history == whole[0].history
    assert student_of(tmp_path / "out") == whole[1]
    rows = (tmp_path / "out" / "training" / "main" / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2"]


@pytest.mark.slow
def test_same_run_again_does_nothing_but_the_step_that_is_wanted(go, tmp_path):
    first, _ = go()
    before = times_of(tmp_path / "out")
    again, said = go()
    assert again == first
    for step in ("training main", "evaluate", "package", "report"):
        assert f"{step}: done already." in said
    unchanged = {"run.json"}  # Says what was asked for last.
    assert {n: t for n, t in times_of(tmp_path / "out").items() if n not in unchanged} == {
        n: t for n, t in before.items() if n not in unchanged
    }
    go(only="report")
    after = times_of(tmp_path / "out")
    changed = {name for name in after if after[name] != before.get(name)}
    assert {"report.json", "report.html"} <= changed
    assert not {name for name in changed if name.startswith(("training", "evaluation", "student"))}


@pytest.mark.slow
def test_packaging_that_fails_loses_nothing_that_was_trained(go, one, whole, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    heard = []
    with monkeypatch.context() as broken:
        broken.setattr(package, "package", full)
        with pytest.raises(OSError, match="No space left"):
            job.run(one, tmp_path / "out", say=heard.append)
    assert "The disk is full. All that was done is kept" in heard[-1]
    report, said = go()
    assert "training main: done already." in said and "evaluate: done already." in said
    assert student_of(tmp_path / "out") == whole[1]
    left = [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    assert left == [".run.lock"]


@pytest.mark.slow
def test_other_test_images_are_evaluated_again_and_nothing_is_trained_again(go, one, make):
    go()
    other = tf.data.Dataset.from_tensor_slices((make.images(16, seed=5), np.arange(16) % 3)).batch(
        8
    )
    changed = dataclasses.replace(one, evaluation={**one.evaluation, "digits": other})
    report, said = go(changed)
    assert "training main: done already." in said
    assert "evaluate: again, as something has changed: test_images.digits" in said
    assert report.tasks["digits"].num_test_images == 16


@pytest.mark.slow
def test_run_with_another_seed_or_other_images_is_refused_and_leaves_the_first(
    go, stopping, one, make, tmp_path
):
    with pytest.raises(Interrupted):
        go(callbacks=stopping(2, signal.SIGINT))
    seed = dataclasses.replace(one.methods[0], seed=9)
    with pytest.raises(ValueError, match=r"method\.seed: 9, was 0"):
        go(dataclasses.replace(one, methods=[seed]))
    stream = data.stream(data.from_arrays(make.images(48)), batch_size=8)
    with pytest.raises(ValueError, match=r"images\.batches: 6, was 5"):
        go(dataclasses.replace(one, streams={"train": stream}))
    with pytest.raises(ValueError, match="the training before it has not finished"):
        go(only="report")
    told = (tmp_path / "out" / "run.json").read_text()
    with pytest.raises(ValueError, match="cannot go on with something else"):
        go(dataclasses.replace(one, methods=[seed], name="other"))
    assert (tmp_path / "out" / "run.json").read_text() == told
    _, said = go()
    assert "Training the student goes on" in said


@pytest.mark.slow
def test_only_one_step_is_done_and_those_after_it_are_left(go, tmp_path):
    report, said = go(only="train")
    assert report is None and "Evaluating" not in said
    assert not (tmp_path / "out" / "evaluation").exists()
    report, said = go(only="evaluate")
    assert report is None and "training main: done already." in said
    assert not (tmp_path / "out" / "student.keras").exists()
    report, _ = go()
    assert report.tasks["digits"].student_accuracy is not None


@pytest.mark.slow
def test_other_labels_of_the_same_test_images_are_evaluated_again(go, one, make):
    """Of a later batch: the first looks as before."""
    first, _ = go()
    labels = np.arange(24) % 3
    labels[-8:] = (labels[-8:] + 1) % 3
    images = make.images(24, seed=0)
    other = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    changed = dataclasses.replace(one, evaluation={**one.evaluation, "digits": other})
    _, said = go(changed)
    assert "evaluate: again" in said and "report: again" in said


@pytest.mark.slow
def test_artifact_that_is_packaged_no_more_is_removed(go, tmp_path, monkeypatch):
    pack = package.package

    def with_another(student, recipe, folder):
        (folder / "student_int16.tflite").write_text("of an earlier packaging")
        return pack(student, recipe, folder)

    with monkeypatch.context() as earlier:
        earlier.setattr(package, "package", with_another)
        go()
    assert (tmp_path / "out" / "student_int16.tflite").exists()
    go(only="package")
    assert not (tmp_path / "out" / "student_int16.tflite").exists()
    assert (tmp_path / "out" / "student.keras").exists()


def test_only_a_step_of_a_run_that_was_begun(go, tmp_path):
    with pytest.raises(ValueError, match="nothing was trained in"):
        go(only="report")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_damaged_result_is_made_again_and_refused_where_another_step_reads_it(go, tmp_path):
    go()
    student, evaluated = tmp_path / "out" / "student.keras", tmp_path / "out" / "evaluation"
    trained = student_of(tmp_path / "out")
    student.write_bytes(student.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="student.keras is not as it was left. Run without"):
        go(only="report")
    (evaluated / "own_accuracies.json").unlink()
    (tmp_path / "out" / "package.json").write_text("{")
    _, said = go()
    assert "evaluate: again, as something has changed: evaluation is not as it was left" in said
    assert "package: again" in said
    assert student_of(tmp_path / "out") == trained
    assert (evaluated / "own_accuracies.json").is_file()


@pytest.mark.slow
def test_restart_begins_anew(go, tmp_path):
    go()
    (tmp_path / "out" / "training" / "main" / "history.csv").write_text("old")
    _, said = go(restart=True)
    assert "Training the student without labels" in said and "done already" not in said


@pytest.mark.slow
def test_run_json_says_what_was_run(go, tmp_path):
    go(described={"command": "demo", "flags": {"seed": 0}})
    told = json.loads((tmp_path / "out" / "run.json").read_text())
    assert told.pop("kind") == "keras-amalgam run"
    assert told == {"recipe": "tiny", "command": "demo", "flags": {"seed": 0}}


@pytest.mark.slow
def test_few_test_images_leave_out_the_picture_of_the_common_space_and_say_so(go, one):
    few = {name: images.unbatch().take(2).batch(2) for name, images in one.evaluation.items()}
    report, _ = go(dataclasses.replace(one, evaluation=few))
    assert report.common_space is None
    assert "Too few test images for the common space's picture." in report.notes
    assert report.tasks["digits"].num_test_images == 2

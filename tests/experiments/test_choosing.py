"""A run that chooses its method: what it leaves, says, goes on with and plans."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam.experiments import estimate, job, plan, shortening
from keras_amalgam.report import Report
from keras_amalgam.terms import SoftTargets
from keras_amalgam.training import Method, Stage, cosine_adamw


def method(name, rate, epochs=5):
    stage = Stage(lambda: [SoftTargets("per_task")], epochs, cosine_adamw(rate))
    return Method(name, (stage,))


@pytest.fixture
def choosing_recipe(recipe, make):
    aside = {"image": make.images(20, seed=4), "source": np.arange(20, dtype="int32") % 2}
    return dataclasses.replace(
        recipe,
        methods=[],
        candidates=[method("idle", 0.0), method("learning", 0.05, epochs=10)],
        streams={
            "train": recipe.streams["train"],
            "kept_aside": tf.data.Dataset.from_tensor_slices(aside).batch(8),
        },
    )


@pytest.fixture
def unpackaged(monkeypatch):
    """Packaging takes most of a run's time, and nothing here hangs on it."""
    monkeypatch.setattr(job._Job, "_package", lambda *_: job.Packaged({}, 1.0, []))


@pytest.mark.usefixtures("eagerly")
def test_run_trains_the_method_that_was_chosen_and_goes_on_with_it(choosing_recipe, tmp_path):
    said = []
    only = job.Settings(only="train")
    job.run(choosing_recipe, tmp_path / "out", only, say=said.append)
    content = json.loads((tmp_path / "out" / "choice.json").read_text())
    idle, learning = content["tried"]
    assert content["method"] == "learning" and content["num_images"] == 20
    assert (idle["epochs"], learning["epochs"]) == (1, 2)
    assert np.mean([*learning["agreement"].values()]) > np.mean([*idle["agreement"].values()])
    folders = {path.name for path in (tmp_path / "out" / "training").iterdir()}
    assert folders == {"idle_trial", "learning_trial", "learning"}
    assert any(line.startswith("Chosen: learning. Agreement with the teachers") for line in said)
    said.clear()
    job.run(choosing_recipe, tmp_path / "out", only, say=said.append)
    assert "choose: done already." in said and "training learning: done already." in said


@pytest.mark.slow
@pytest.mark.usefixtures("unpackaged")
def test_report_says_how_the_method_was_chosen(choosing_recipe, tmp_path):
    report = job.run(choosing_recipe, tmp_path / "out", say=lambda text: None)
    assert report is not None and report.student.method == "learning"
    assert [one.method for one in report.choice.tried] == ["idle", "learning"]
    assert Report.from_dict(report.to_dict()) == report
    page = (tmp_path / "out" / "report.html").read_text()
    assert "How the method was chosen" in page and "learning <small>chosen" in page


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_run_goes_on_without_a_method_that_diverges(choosing_recipe, tmp_path):
    candidates = [method("wild", 1e30), method("learning", 0.05, epochs=5)]
    recipe = dataclasses.replace(choosing_recipe, candidates=candidates)
    said = []
    with pytest.warns(UserWarning, match="'wild' is left out"):
        job.run(recipe, tmp_path / "out", job.Settings(only="train"), say=said.append)
    content = json.loads((tmp_path / "out" / "choice.json").read_text())
    assert content["method"] == "learning" and content["diverged"] == ["wild"]
    assert any("wild was left out: its loss diverged." in line for line in said)


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_step_after_a_choice_that_was_not_made_is_refused(choosing_recipe, tmp_path):
    other = dataclasses.replace(
        choosing_recipe, methods=choosing_recipe.candidates[1:], candidates=[]
    )
    job.run(other, tmp_path / "out", job.Settings(only="train"), say=lambda text: None)
    with pytest.raises(ValueError, match="Only the step 'evaluate' was wanted"):
        job.run(choosing_recipe, tmp_path / "out", job.Settings(only="evaluate"))


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_choice_between_others_is_not_gone_on_with(choosing_recipe, tmp_path):
    only = job.Settings(only="train")
    job.run(choosing_recipe, tmp_path / "out", only, say=lambda text: None)
    changed = [method("idle", 0.0), method("learning", 0.05, epochs=15)]
    others = dataclasses.replace(choosing_recipe, candidates=changed)
    with pytest.raises(ValueError, match=r"learning_trial/states cannot go on .*epochs: 3, was 2"):
        job.run(others, tmp_path / "out", only, say=lambda text: None)


@pytest.mark.usefixtures("eagerly")
def test_plan_counts_the_trials_and_the_longest_candidate(choosing_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "STEPS", 4)
    monkeypatch.setattr(estimate, "STEADY", 1)
    said = []
    planned = plan.plan(choosing_recipe, tmp_path / "out", 2, said.append)
    assert said[0].startswith("choose: to do, between idle, learning; the slowest stands for")
    assert said[1:4] == [
        "training idle_trial: 4 steps in epochs of 4.",
        "training learning_trial: 8 steps in epochs of 4.",
        "training learning: 40 steps in epochs of 4.",
    ]
    idle, learning = (planned.paces[name][0] for name in ("idle", "learning"))
    slowest = max(4 * 5 * idle, 40 * learning)
    steady = planned.training - planned.once
    assert steady == pytest.approx(4 * idle + 8 * learning + slowest)


def test_hours_leave_room_for_the_trials_and_the_slowest_candidate(choosing_recipe):
    measured = estimate.Estimate(
        paces={"idle": [0.1], "learning": [0.4]}, batch_size=8, once=20.0, training=600.0,
        after=100.0, memory=None, disk=1,
    )  # fmt: skip
    # A step of each: a fifth of one in both trials, and one of the slowest.
    of_each = 0.2 * (0.1 + 0.4) + 0.4
    assert shortening.steps_in(1120.0, measured, choosing_recipe) == int(1000 / of_each)


def test_candidates_without_images_kept_aside_are_refused(choosing_recipe):
    with pytest.raises(ValueError, match="kept aside. Received: streams \\['train'\\]"):
        dataclasses.replace(choosing_recipe, streams={"train": choosing_recipe.streams["train"]})
    with pytest.raises(ValueError, match="two or more methods to choose from"):
        dataclasses.replace(choosing_recipe, candidates=choosing_recipe.candidates[:1])

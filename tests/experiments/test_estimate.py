"""What a run will take: what is measured, and what follows from it by hand."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_amalgam.experiments import estimate as module
from keras_amalgam.experiments import made_from
from keras_amalgam.experiments.estimate import (
    Estimate,
    check_one_stage,
    cut_short,
    estimate,
    plan,
    steps_in,
)
from keras_amalgam.files.writing import write_json
from keras_amalgam.training import state, train
from keras_amalgam.training.keeping import Keeping
from keras_amalgam.training.state import Place, State

MEASURED = Estimate(
    paces={"main": [0.5]}, batch_size=64, once=20.0, training=600.0, after=100.0,
    memory=2 * 10**9, disk=3 * 10**6,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("eagerly", "of_few_steps")


@pytest.fixture
def of_few_steps(monkeypatch):
    monkeypatch.setattr(module, "STEPS", 4)
    monkeypatch.setattr(module, "STEADY", 1)


@pytest.fixture
def one(recipe):
    """Of one method of one stage."""
    stage = recipe.methods[0].stages[0]
    method = dataclasses.replace(recipe.methods[0], stages=(dataclasses.replace(stage, epochs=5),))
    return dataclasses.replace(recipe, methods=[method])


def test_plan_says_what_would_be_done_and_takes_and_writes_nothing(one, tmp_path):
    said = []
    estimated = plan(one, tmp_path / "out", 2, said.append)
    assert estimated is not None
    assert not (tmp_path / "out").exists()
    assert said[0] == "training main: 20 steps in epochs of 4."
    assert said[1:4] == ["evaluate: to do.", "package: to do.", "report: to do."]
    assert said[4] == estimated.sentence
    (pace,) = estimated.paces["main"]
    assert estimated.training == pytest.approx(estimated.once + 20 * pace)
    assert estimated.once > 0, "Graphs are built in the first steps."
    assert f"{8 / pace:.0f} images/s" in estimated.sentence
    # 24 test images of each of two tasks, shown in batches of 8.
    evaluation = 48 / 8 * pace
    packaging = module.PACKAGING + module.PACKAGING_PER_WEIGHT * len(one.student().weights)
    assert estimated.after == pytest.approx(evaluation + packaging)
    assert 10**8 < estimated.memory < 10**11


def test_plan_of_a_restart_says_that_all_is_done_again(one, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "estimate", lambda *_: MEASURED)
    train(
        cut_short(one, 1).methods[0], one.teachers, one.student, one.student_tap,
        one.streams["train"], keeping=Keeping(tmp_path / "training/main/states"), verbose=0,
    )  # fmt: skip
    write_json(tmp_path / "steps.json", {"package": {"made_from": {}, "seconds": 1.0}})
    with pytest.raises(ValueError, match="cannot go on with something else"):
        plan(one, tmp_path, 2, print)
    anew = []
    plan(one, tmp_path, 2, anew.append, restart=True)
    assert anew[0] == "training main: 20 steps in epochs of 4."
    assert anew[1:4] == ["evaluate: to do.", "package: to do.", "report: to do."]


@pytest.mark.parametrize(
    ("steps", "lost", "said", "left"),
    [
        (20, False, ["20 steps in epochs of 4, done already", "evaluate: to do", "done already",
                     "report: to do"], ([0], {"evaluate", "report"})),
        (20, True, ["done already", "evaluate: to do",
                    "package: to do again, as student.keras is missing", "report: to do"],
         ([0], {"evaluate", "package", "report"})),
        (6, False, ["begun: stage 1, epoch 2, step 2.", "evaluate: to do", "package: to do again",
                    "report: to do"], ([14], {"evaluate", "package", "report"})),
    ],
)  # fmt: skip
def test_plan_says_and_counts_only_what_is_left(
    one, tmp_path, monkeypatch, steps, lost, said, left
):
    measured = []
    monkeypatch.setattr(module, "estimate", lambda *told: measured.append(told) or MEASURED)
    method, stream = one.methods[0], one.streams["train"]
    keras.utils.set_random_seed(method.seed)
    about = made_from.training(one, method, one.student(), made_from.images(one))
    about = json.loads(json.dumps(about))
    place = Place(0, *divmod(steps, 4))
    keeping = Keeping(tmp_path / "training/main/states", about)
    monkeypatch.setattr(state, "_variables", lambda _: [])
    state.save(keeping.folder, State(place, made_from=about, finished=steps == 20), None, 2)
    files = {"student.keras": "0"} if lost else {}
    record = {"made_from": {}, "seconds": 1.0, "files": files}
    write_json(tmp_path / "steps.json", {"package": record})
    heard = []
    plan(one, tmp_path, 2, heard.append)
    assert all(part in line for part, line in zip(said, heard, strict=False)), heard
    assert measured[0][2:] == ({"main": left[0]}, left[1])
    assert int(stream.cardinality()) == 4


def test_plan_of_a_finished_run_measures_nothing(one, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "estimate", None)
    monkeypatch.setattr(module, "_begun", lambda *_: State(finished=True))
    record = {"made_from": {}, "seconds": 1.0}
    steps = ("evaluate", "package", "report")
    write_json(tmp_path / "steps.json", dict.fromkeys(steps, record))
    said = []
    assert plan(one, tmp_path, 2, said.append) is None
    assert said[1:] == [*(f"{step}: done already." for step in steps), "Nothing is left to do."]


def test_every_stage_of_every_method_is_measured_and_counted_at_its_own_pace(
    recipe, tmp_path, monkeypatch
):
    seconds = {"main": [2.0, 3.0], "all": [5.0], "without": [7.0], "untaught": [11.0]}
    asked = []

    def measure(_, method):
        asked.append(method.name)
        return module._Measured(seconds[method.name], 1.0, 100.0, recipe.student())

    monkeypatch.setattr(module, "_measure", measure)
    finished = ("blind",)
    begun = {"main": State(Place(1, 0, 1)), "all": State(Place(0, 0, 3))}
    monkeypatch.setattr(
        module,
        "_begun",
        lambda _, method, *__: begun.get(method.name, State(finished=method.name in finished)),
    )
    said = []
    estimated = plan(recipe, tmp_path / "out", 2, said.append)
    assert estimated is not None
    assert asked == [*seconds], "What is finished is not measured."
    # Stages of four steps, of which the first is done, one of the second, and three of "all".
    assert estimated.training == 4 * 1.0 + 3 * 3.0 + 1 * 5.0 + 4 * 7.0 + 4 * 11.0
    assert estimated.sentence.startswith(
        "A step takes 2000 and 3000 ms (main), 5000 ms (all), 7000 ms (without) and 11000 ms "
        "(untaught): about"
    )


def test_stages_are_measured_as_they_are_trained(recipe):
    method = recipe.methods[0]
    stages = (method.stages[0], dataclasses.replace(method.stages[1], freeze=("student",)))
    measured = module._measure(recipe, dataclasses.replace(method, stages=stages))
    assert len(measured.paces) == 2 and min(measured.paces) > 0
    with pytest.raises(ValueError, match="nothing to freeze of this name. Received: 'nothing'"):
        wrong = dataclasses.replace(stages[1], freeze=("nothing",))
        module._measure(recipe, dataclasses.replace(method, stages=(stages[0], wrong)))


def test_median_of_steady_steps_is_told_apart_from_the_first_ones():
    times = iter([0.0, 9.0, 10.0, 10.1, 10.2, 10.3])
    timed = module._Timed(lambda: next(times))
    for batch in range(5):
        timed.on_train_batch_end(batch)
    assert timed.pace == pytest.approx(0.1)
    assert timed.once == pytest.approx(9.0 - 0.1), "One step is let pass."


def test_hours_become_the_steps_that_fit_beside_what_follows(one):
    assert steps_in(1120.0, MEASURED, one) == 2000
    with pytest.raises(ValueError, match="fits into 10 s. Expected: more than 2 min, as reading"):
        steps_in(10.0, MEASURED, one)


def test_hours_are_shared_by_all_methods_at_their_own_paces(one):
    (method,) = one.methods
    other = dataclasses.replace(method, name="other")
    both = dataclasses.replace(one, methods=[method, other])
    measured = dataclasses.replace(MEASURED, paces={"main": [0.5], "other": [1.5]})
    assert steps_in(1120.0, measured, both) == 500


@pytest.mark.parametrize(("steps", "epochs"), [(3, 1), (4, 1), (9, 3)])
def test_training_is_cut_short_inside_its_last_epoch(one, steps, epochs):
    (stage,) = cut_short(one, steps).methods[0].stages
    assert (stage.epochs, stage.steps, stage.length(4)) == (epochs, steps, steps)


def test_steps_of_several_stages_are_refused(recipe):
    for refused in (lambda: cut_short(recipe, 10), lambda: check_one_stage(recipe)):
        with pytest.raises(ValueError, match="several stages in \\['main'\\]"):
            refused()


def test_sentence_says_time_memory_and_disk():
    assert MEASURED.sentence == (
        "A step takes 500 ms, 128 images/s: about 10 min of training and 2 min of evaluation and "
        "packaging, 2.00 GB of memory in training, up to 3.00 MB on the disk."
    )


def test_estimate_of_the_disk_counts_the_states_that_stay(one, tmp_path):
    small, large = estimate(one, keep=1).disk, estimate(one, keep=5).disk
    method = cut_short(one, 1).methods[0]
    train(
        method, one.teachers, one.student, one.student_tap, one.streams["train"],
        keeping=Keeping(tmp_path, keep=1), verbose=0,
    )  # fmt: skip
    (path,) = tmp_path.iterdir()
    with np.load(path) as arrays:
        state = sum(arrays[name].nbytes for name in arrays.files if name != "about")
    assert (large - small) / 4 == pytest.approx(state, rel=0.1)

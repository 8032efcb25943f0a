"""What a run would do and take: what is measured, and what follows from it by hand."""

import json

import keras
import pytest

from keras_amalgam.experiments import estimate, made_from, shortening
from keras_amalgam.experiments import plan as module
from keras_amalgam.experiments.plan import plan
from keras_amalgam.files.writing import write_json
from keras_amalgam.training import state, train
from keras_amalgam.training.keeping import Keeping
from keras_amalgam.training.state import Place, State

pytestmark = pytest.mark.usefixtures("eagerly", "few_steps")


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
    packaging = estimate.PACKAGING + estimate.PACKAGING_PER_WEIGHT * len(one.student().weights)
    assert estimated.after == pytest.approx(evaluation + packaging)
    assert 10**8 < estimated.memory < 10**11


def test_plan_of_a_restart_says_that_all_is_done_again(one, tmp_path, monkeypatch, measured):
    monkeypatch.setattr(module, "estimate", lambda *_: measured)
    train(
        shortening.cut_short(one, 1).methods[0], one.teachers, one.student, one.student_tap,
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
    one, tmp_path, monkeypatch, steps, lost, said, left, measured
):
    asked = []
    monkeypatch.setattr(module, "estimate", lambda *told: asked.append(told) or measured)
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
    assert asked[0][2:] == ({"main": left[0]}, left[1])
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
        return estimate._Measured(seconds[method.name], 1.0, 100.0, recipe.student())

    monkeypatch.setattr(estimate, "_measure", measure)
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

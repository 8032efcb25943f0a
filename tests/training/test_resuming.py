"""A training that was interrupted goes on as if it had not been."""

import dataclasses
import os
import signal
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import data
from keras_amalgam.training import Method, Stage, cosine_adamw, train
from keras_amalgam.training import state as states
from keras_amalgam.training.interruption import Interrupted
from keras_amalgam.training.keeping import Keeping, KeepState

COUNT, BATCH, EPOCHS = 26, 8, 2
STEPS = COUNT // BATCH


def student(teachers):
    """With dropout, whose random state is part of what a training hangs on."""
    inputs = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.3)(x)
    x = keras.layers.ReLU(name="student_map")(x)
    return ka.build_student(keras.Model(inputs, x, name="backbone"), teachers)


def method(*stages):
    stages = stages or (stage(),)
    return Method("small", stages, seed=5)


def stage(epochs=EPOCHS, steps=None):
    def terms():
        return [ka.SoftTargets(), ka.CommonFeatures(units=4, weight=0.1)]

    return Stage(terms, epochs, cosine_adamw(1e-2), steps)


def stream(images, cache=True):
    return data.stream(
        data.from_arrays(images),
        batch_size=BATCH,
        augmentation=data.Augmentation(translation=1, flip=True, mixup=0.2),
        epoch=data.Epoch(cache=cache, window=16),
        seed=3,
    )


@pytest.fixture
def run(teachers, make):
    """Trains in a folder, perhaps until a step at which a signal comes."""
    images = make.images(COUNT)

    def go(folder, stop=None, cache=True, how=None, made_from=None, **settings):
        how = how or method()
        keeping = Keeping(Path(folder), made_from=made_from or {}, **settings)
        callbacks = (lambda *_: [stop]) if stop else (lambda *_: [])
        return train(
            how, teachers, lambda: student(teachers), "student_map", stream(images, cache),
            keeping=keeping, callbacks=callbacks, verbose=0,
        )  # fmt: skip

    return go


def assert_same(one, other):
    """The same curve and the same student, to the bit."""
    assert one.history.keys() == other.history.keys()
    for key, values in one.history.items():
        np.testing.assert_array_equal(values, other.history[key], err_msg=key)
    weights = zip(one.amalgamator.get_weights(), other.amalgamator.get_weights(), strict=True)
    for mine, its in weights:
        np.testing.assert_array_equal(mine, its)


@pytest.mark.matrix(slow=2)
@pytest.mark.parametrize("cache", [True, False], ids=["cached", "read anew"])
@pytest.mark.parametrize("step", [STEPS + 1, STEPS, 1])
def test_interrupted_training_ends_as_an_unbroken_one(run, stop_at, eagerly, tmp_path, step, cache):
    check_that_it_goes_on(run, stop_at, tmp_path, step, cache)


@pytest.mark.slow
def test_interrupted_training_in_a_graph_ends_as_an_unbroken_one(run, stop_at, tmp_path):
    check_that_it_goes_on(run, stop_at, tmp_path, STEPS + 1, cache=True)


def check_that_it_goes_on(run, stop_at, tmp_path, step, cache):
    whole = run(tmp_path / "whole", cache=cache)
    with pytest.raises(Interrupted):
        run(tmp_path / "broken", stop_at(step), cache=cache)
    left, _ = states.latest(tmp_path / "broken")
    assert left.place.epoch * STEPS + left.place.step == step
    assert_same(whole, run(tmp_path / "broken", cache=cache))


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_training_may_be_interrupted_many_times_and_in_any_stage(run, tmp_path, stop_at):
    how = method(stage(1), stage(2))
    whole = run(tmp_path / "whole", how=how)
    broken = None
    while broken is None:
        try:
            broken = run(tmp_path / "broken", stop_at(2, signal.SIGTERM), how=how)
        except Interrupted as interrupted:
            assert interrupted.signal == signal.SIGTERM
    assert_same(whole, broken)


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_stage_of_so_many_steps_ends_inside_an_epoch_and_goes_on_to_the_same_end(
    run, tmp_path, stop_at
):
    how = method(stage(3, STEPS + 3))
    counted = stop_at(1000)
    whole = run(tmp_path / "whole", counted, how=how)
    assert counted.seen == STEPS + 3 == int(whole.amalgamator.optimizer.iterations)
    assert len(whole.history["loss"]) == 2
    for step in (2, STEPS):
        with pytest.raises(Interrupted):
            run(tmp_path / "broken", stop_at(step), how=how)
    assert_same(whole, run(tmp_path / "broken", how=how))


@pytest.mark.matrix(keep=1)
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("steps", [None, STEPS + 1])
def test_training_that_ended_before_it_was_known_as_finished_is_finished_as_an_unbroken_one(
    run, tmp_path, monkeypatch, steps
):
    def averaged(_):  # What `fit` does with the averages at its end must not be missing.
        return keras.optimizers.SGD(1e-2, use_ema=True)

    how = method(dataclasses.replace(stage(3, steps), optimizer=averaged))
    whole = run(tmp_path / "whole", how=how, keep=1)
    with monkeypatch.context() as killed:
        killed.delattr(KeepState, "finish")
        with pytest.raises(AttributeError, match="finish"):
            run(tmp_path / "broken", how=how, keep=1)
    assert not states.latest(tmp_path / "broken")[0].finished
    assert_same(whole, run(tmp_path / "broken", how=how, keep=1))
    left, path = states.latest(tmp_path / "broken")
    assert left.finished and list(path.parent.iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_finished_training_is_not_trained_again(run, tmp_path):
    first = run(tmp_path)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir())
    again = run(tmp_path)
    assert_same(first, again)
    assert again.seconds == first.seconds
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir())


@pytest.mark.usefixtures("eagerly")
def test_damaged_state_is_passed_over_for_the_one_before(run, tmp_path, stop_at):
    with pytest.raises(Interrupted):
        run(tmp_path, stop_at(STEPS + 1))
    newest = sorted(tmp_path.glob("state_*.npz"))[-1]
    newest.write_bytes(newest.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match="which is newer, is damaged"):
        left, path = states.latest(tmp_path)
    assert left.place == states.Place(0, 1, 0) and path != newest


@pytest.mark.usefixtures("eagerly")
def test_training_made_from_something_else_is_refused_saying_what_differs(run, tmp_path, stop_at):
    with pytest.raises(Interrupted):
        run(tmp_path, stop_at(1), made_from={"data": {"images": 44}, "stages": [{"epochs": 3}]})
    with pytest.raises(
        ValueError, match=r"data\.images: 45, was 44; stages\.1\.epochs: 4, was 3\."
    ):
        run(tmp_path, made_from={"data": {"images": 45}, "stages": [{"epochs": 4}]})


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("made_from", "says"),
    [
        ({}, "student.architecture: .*, was"),
        ({"student": "mine"}, "begun with another student or other terms"),
    ],
    ids=["noted", "as the user notes it"],
)
def test_state_of_another_student_is_refused(
    run, tmp_path, teachers, make, stop_at, made_from, says
):
    with pytest.raises(Interrupted):
        run(tmp_path, stop_at(1), made_from=made_from)
    wide = keras.Sequential(
        [keras.Input((12, 12, 1)), keras.layers.Conv2D(9, 3, name="student_map")], name="wide"
    )
    with pytest.raises(ValueError, match=says):
        train(
            method(), teachers, lambda: ka.build_student(wide, teachers), "student_map",
            stream(make.images(COUNT)), keeping=Keeping(tmp_path, made_from), verbose=0,
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_so_many_states_stay_as_are_to_be_kept(run, tmp_path):
    run(tmp_path, keep=2)
    assert len(list(tmp_path.glob("*.npz"))) == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


class Counting(keras.callbacks.Callback):
    """Remembers how many epochs it saw."""

    def __init__(self):
        super().__init__()
        self.epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1
        if self.epochs == 1:
            os.kill(os.getpid(), signal.SIGINT)

    def get_state(self):
        return {"epochs": self.epochs}

    def set_state(self, state):
        self.epochs = state["epochs"]


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_callback_with_a_state_goes_on_as_it_was(run, tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path, Counting())
    counting = Counting()
    run(tmp_path, counting)
    assert counting.epochs == EPOCHS

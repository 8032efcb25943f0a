"""Stages: what they take over, swap and leave untrained, and how the epochs count on."""

import keras
import numpy as np
import pytest

import keras_amalgam as ka
from keras_amalgam import data
from keras_amalgam.training import (
    Beyond,
    Interrupted,
    Keeping,
    Method,
    Stage,
    UpTo,
    cosine_adamw,
    train,
)
from keras_amalgam.training.methods.proxy import heads_as_teachers
from keras_amalgam.training.state import State

TAPS = {"early": "backbone/early", "student_map": "backbone/student_map"}


def sgd(steps):
    return keras.optimizers.SGD(0.05)


def soft():
    return [ka.SoftTargets()]


def both():
    return [ka.SoftTargets(), ka.CommonFeatures(units=4, weight=0.5, bandwidths="median")]


def student(teachers):
    inputs = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="early")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="student_map")(x)
    return ka.build_student(keras.Model(inputs, x, name="backbone"), teachers)


@pytest.fixture
def run(teachers, make, eagerly):
    images = make.images(24)
    models = [teacher.signals(1) for teacher in teachers]

    def with_answers(images):
        signals = {t.name: model(images) for t, model in zip(teachers, models, strict=True)}
        return {"image": images, "signals": signals}

    def go(*stages, callbacks=lambda *_: (), keeping=None, seed=5, **settings):
        method = Method("staged", tuple(stages), seed=seed)
        size = settings.pop("batch_size", 8)
        stream = data.stream(data.from_arrays(images), batch_size=size, seed=3)
        tap = settings.pop("student_tap", "backbone/student_map")
        if settings.pop("given", False):
            stream = stream.map(with_answers)
        return train(
            method, teachers, lambda: student(teachers), tap, stream,
            callbacks=callbacks, keeping=keeping, verbose=0, **settings,
        )  # fmt: skip

    return go


class Weights(keras.callbacks.Callback):
    """Notes the weights at the beginning and the end of every stage."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_begin(self, logs=None):
        self.seen.append(self._weights())

    def on_train_end(self, logs=None):
        self.seen.append(self._weights())

    def _weights(self):
        parts = {"student": self.model.student, **{term.name: term for term in self.model.terms}}
        return {name: [w.copy() for w in part.get_weights()] for name, part in parts.items()}


def same(one, other):
    return all((a == b).all() for a, b in zip(one, other, strict=True))


def test_student_and_terms_go_on_into_the_next_stage(run):
    noted = Weights()
    run(Stage(both, 1, sgd), Stage(both, 1, sgd), callbacks=lambda *_: [noted])
    first, end, second, _ = noted.seen
    assert not same(first["common_features"], end["common_features"])
    for name, weights in end.items():
        assert same(weights, second[name]), name


def test_term_of_a_new_name_begins_and_one_left_out_is_gone(run):
    def renamed():
        return [ka.SoftTargets(), ka.CommonFeatures(units=4, name="second_space")]

    noted = Weights()
    run(Stage(both, 1, sgd), Stage(renamed, 1, sgd), callbacks=lambda *_: [noted])
    assert set(noted.seen[2]) == {"student", "soft_targets", "second_space"}
    assert same(noted.seen[1]["student"], noted.seen[2]["student"])


def test_term_of_other_weights_under_the_same_name_is_refused(run):
    def wider():
        return [ka.SoftTargets(), ka.CommonFeatures(units=8, bandwidths="median")]

    with pytest.raises(ValueError, match="'common_features', .*units=8, was 4.* a name of its own"):
        run(Stage(both, 1, sgd), Stage(wider, 1, sgd))


def test_term_of_other_settings_goes_on_only_if_it_has_learned_nothing(run):
    def fitted(temperature, weight=1.0):
        return lambda: [
            ka.SoftTargets(fit_temperatures=True, temperature=temperature, weight=weight)
        ]

    with pytest.raises(ValueError, match=r"differ: temperature=4.0, was 1.0. Give the new one a"):
        run(Stage(fitted(1.0), 1, sgd), Stage(fitted(4.0), 1, sgd))
    run(Stage(fitted(1.0), 1, sgd), Stage(fitted(1.0, weight=0.5), 1, sgd))
    hot = Stage(lambda: [ka.SoftTargets(temperature=4.0)], 1, sgd)
    run(Stage(soft, 1, sgd), hot)


def test_terms_begin_anew_where_the_teachers_change_back(run):
    """What was fitted to the first student's heads says nothing of the training's teachers."""

    def fitted():
        return [ka.SoftTargets(fit_temperatures=True)]

    noted = Weights()
    run(
        Stage(soft, 1, sgd),
        Stage(fitted, 1, sgd, teachers=heads_as_teachers),
        Stage(fitted, 1, sgd),
        callbacks=lambda *_: [noted],
    )
    alone = Weights()
    run(Stage(fitted, 1, sgd), callbacks=lambda *_: [alone])
    of_students, of_teachers = noted.seen[2]["soft_targets"], noted.seen[4]["soft_targets"]
    assert not same(of_students, of_teachers)
    assert same(of_teachers, alone.seen[0]["soft_targets"])


@pytest.mark.parametrize("tap", [{"student_tap": "backbone/early"}, {}], ids=["other", "same"])
def test_terms_that_read_another_layer_begin_anew(run, tap):
    weights = Weights()
    run(Stage(both, 1, sgd), Stage(both, 1, sgd, **tap), callbacks=lambda *_: [weights])
    ended, begun = (weights.seen[number]["common_features"] for number in (1, 2))
    goes_on = [
        one.shape == other.shape and (one == other).all()
        for one, other in zip(ended, begun, strict=True)
    ]
    assert all(goes_on) is (not tap)


def test_kept_training_tells_of_a_schedule_without_settings(run, tmp_path):
    class Falling(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.1 / (1.0 + keras.ops.cast(step, "float32"))

    stage = Stage(soft, 1, lambda steps: keras.optimizers.SGD(Falling()))
    with pytest.raises(ValueError, match="'Falling' must override .* Give its class a"):
        run(stage, keeping=Keeping(tmp_path))
    run(stage)


def test_later_stage_that_does_not_fit_is_refused_before_anything_is_trained(run):
    trained = []
    note = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: trained.append(1))
    wrong = {
        "nothing to freeze": Stage(soft, 1, sgd, freeze=["base"]),
        "no layer": Stage(both, 1, sgd, student_tap="backbone/nowhere"),
        "no `class_names`": Stage(
            soft, 1, sgd, teachers=lambda student: heads_as_teachers(keras.Sequential())
        ),
    }
    for said, stage in wrong.items():
        with pytest.raises(ValueError, match=said):
            run(Stage(soft, 1, sgd), stage, callbacks=lambda *_: [note])
    assert not trained


def test_images_of_unknown_number_are_refused(teachers, make):
    method = Method("soft", (Stage(soft, 1, sgd),))
    images = data.stream(data.from_arrays(make.images(24)), batch_size=8)
    for endless, said in (
        (images.repeat(), "infinitely many"),
        (images.filter(lambda image: True), "unknown"),
        (images.take(0), "none"),
    ):
        with pytest.raises(ValueError, match=f"known number. Received: {said}. Use images.take"):
            train(method, teachers, lambda: student(teachers), None, endless, verbose=0)


@pytest.mark.parametrize("numbers", [{"epochs": 2.5}, {"epochs": 0}, {"epochs": 1, "steps": 0}])
def test_stage_of_no_whole_number_is_refused(numbers):
    with pytest.raises(ValueError, match="whole numbers of epochs and steps"):
        Stage(soft, optimizer=sgd, **numbers)


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf"), "1e-3", None])
def test_rate_that_is_none_is_refused_when_the_method_is_made(rate):
    with pytest.raises(ValueError, match="`learning_rate` must be finite and at least zero"):
        cosine_adamw(rate)


@pytest.mark.parametrize("settings", [{"keep": 0}, {"minutes": -1.0}, {"minutes": float("nan")}])
def test_keeping_that_keeps_nothing_is_refused(tmp_path, settings):
    with pytest.raises(ValueError, match="At least one state stays"):
        Keeping(tmp_path, **settings)


def test_kept_training_is_refused_for_other_teachers_and_another_method(run, teachers, tmp_path):
    """Without `made_from`, too: what was fitted to the first teachers would serve the second."""
    stage = Stage(soft, 1, sgd)
    run(stage, keeping=Keeping(str(tmp_path / "kept")))
    assert run(stage, keeping=Keeping(str(tmp_path / "kept"))).history  # It is done.
    with pytest.raises(ValueError, match="cannot go on.*epochs: 2, was 1"):
        run(Stage(soft, 2, sgd), keeping=Keeping(tmp_path / "kept"))
    kernel = teachers[0].model.layers[-1].kernel
    kernel.assign(kernel + 0.1)
    with pytest.raises(ValueError, match="cannot go on.*weights_sha256"):
        run(stage, keeping=Keeping(tmp_path / "kept"))


def test_kept_training_is_refused_for_another_student_and_other_batches(
    run, tmp_path, stop_at, monkeypatch
):
    stop = stop_at(2)
    with pytest.raises(Interrupted):
        run(Stage(soft, 1, sgd), keeping=Keeping(tmp_path), callbacks=lambda *_: [stop])
    with pytest.raises(ValueError, match="cannot go on with something else.* batches"):
        run(Stage(soft, 1, sgd), keeping=Keeping(tmp_path), batch_size=4)
    relu = keras.layers.ReLU
    monkeypatch.setattr(keras.layers, "ReLU", lambda name: relu(max_value=6.0, name=name))
    with pytest.raises(ValueError, match="cannot go on with something else.* student"):
        run(Stage(soft, 1, sgd), keeping=Keeping(tmp_path))


def test_training_can_go_on_by_hand_after_a_last_stage_that_froze_something(
    run, teachers, make, tmp_path
):
    trained = run(Stage(soft, 1, sgd, freeze=["backbone"])).amalgamator
    trained.fit(make.images(8), verbose=0)
    trained.save(tmp_path / "half.keras")
    again = ka.Amalgamator.load(tmp_path / "half.keras", teachers)
    assert int(again.optimizer.iterations) == 1
    before = again.student.get_layer("backbone").get_weights()
    again.fit(make.images(8), verbose=0)
    assert not same(before, again.student.get_layer("backbone").get_weights())


def test_epochs_count_on_over_the_stages(run):
    seen = []
    note = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
    history = run(
        Stage(soft, 2, sgd), Stage(both, 1, sgd), Stage(soft, 1, sgd), callbacks=lambda *_: [note]
    ).history
    assert seen == [0, 1, 2, 3]
    assert [value is None for value in history["common_features"]] == [True, True, False, True]
    assert all(len(values) == 4 for values in history.values())


def test_stage_that_was_stopped_early_does_not_leave_a_gap_in_the_epochs(run):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(epoch)
            self.model.stop_training = True

    seen = []
    history = run(Stage(soft, 5, sgd), Stage(soft, 3, sgd), callbacks=lambda *_: [Stop()]).history
    assert seen == [0, 1] and len(history["loss"]) == 2


def test_each_epoch_of_a_later_stage_has_an_order_of_its_own(run, monkeypatch):
    """Streams are told the true epoch: the second stage does not see the first one's batches."""
    seen = []
    step = ka.Amalgamator.train_step

    def noting(self, batch):
        seen.append(np.asarray(ka.Batch.of(batch).images))
        return step(self, batch)

    monkeypatch.setattr(ka.Amalgamator, "train_step", noting)
    run(Stage(soft, 1, sgd), Stage(soft, 1, sgd))
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first.sum((1, 2, 3))), np.sort(second.sum((1, 2, 3))))


def test_frozen_parts_are_not_trained_and_are_trained_again_afterwards(run):
    noted = Weights()
    run(
        Stage(both, 1, sgd),
        Stage(both, 1, sgd, freeze=["backbone", "common_features"]),
        Stage(both, 1, sgd),
        callbacks=lambda *_: [noted],
    )
    _, _, begin, end, third, last = noted.seen
    assert same(begin["common_features"], end["common_features"])
    head = 2  # Kernel and bias of two heads come last.
    changed = [(a != b).any() for a, b in zip(begin["student"], end["student"], strict=True)]
    assert not any(changed[: -2 * head]) and all(changed[-2 * head :])
    assert not same(third["common_features"], last["common_features"])
    assert not same(third["student"][:2], last["student"][:2])


def test_freezing_what_is_not_there_is_refused_with_what_is(run):
    with pytest.raises(
        ValueError, match=r"Received: 'base'. Expected: one of \['student', .*'soft_t"
    ):
        run(Stage(soft, 1, sgd, freeze=["base"]))
    with pytest.raises(
        ValueError, match=r"'backbone/early/conv'. Expected: 'backbone/early/' and behind it"
    ):
        run(Stage(soft, 1, sgd, freeze=["backbone/early/conv"]))
    with pytest.raises(ValueError, match=r"UpTo\(tap='mid'\). Expected: one of \['features'\]"):
        run(Stage(soft, 1, sgd, freeze=[UpTo("mid")]))
    for one in ("backbone", UpTo("mid")):
        with pytest.raises(TypeError, match=r"`freeze` is a list. Received: .*Expected: \["):
            Stage(soft, 1, sgd, freeze=one)


def changed(run, part):
    """Which weights of the student change in a stage that freezes this part."""
    noted = Weights()
    run(Stage(soft, 1, sgd, student_tap=TAPS, freeze=[part]), callbacks=lambda *_: [noted])
    begin, end = noted.seen
    return [(a != b).any() for a, b in zip(begin["student"], end["student"], strict=True)]


def test_layer_inside_another_is_frozen_by_its_path(run):
    conv, norm = changed(run, "backbone/early")[:2], changed(run, "backbone/norm")[2:6]
    assert not any(conv) and not any(norm)
    assert all(changed(run, "backbone/norm")[:2])


def test_all_that_a_tap_hangs_on_is_frozen(run):
    early = changed(run, UpTo("early"))
    assert not any(early[:2]) and all(early[2:])
    whole = changed(run, UpTo("student_map"))
    assert not any(whole[:6]) and all(whole[6:])


def test_all_that_a_tap_does_not_hang_on_is_frozen(run):
    beyond = changed(run, Beyond("early"))
    assert all(beyond[:2]) and not any(beyond[2:])


def test_stage_of_other_teachers_is_not_taught_by_signals_that_came_with_the_images(run):
    """A cached stream brings the first teachers' answers, under the names of the second's."""
    noted = []
    step = ka.Amalgamator.train_step

    def twins(student):
        return heads_as_teachers(student)

    def noting(self, batch):
        noted.append(set(ka.Batch.of(batch).signals))
        return step(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ka.Amalgamator, "train_step", noting)
        run(Stage(soft, 1, sgd), Stage(soft, 1, sgd, teachers=twins), given=True)
    assert noted == [{"digits", "shapes"}] * 3 + [set()] * 3


def test_stage_can_swap_taps(run, teachers):
    shapes = []

    def noting(stage, steps):
        return [
            keras.callbacks.LambdaCallback(
                on_train_begin=lambda logs: shapes.append(taps[-1].student_taps)
            )
        ]

    taps = []
    attach = ka.Amalgamator.__init__

    def spying(self, *args, **kwargs):
        attach(self, *args, **kwargs)
        taps.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ka.Amalgamator, "__init__", spying)
        run(
            Stage(soft, 1, sgd),
            Stage(soft, 1, sgd, student_tap="backbone/early"),
            callbacks=noting,
        )
    assert [one["features"].layer for one in shapes] == ["backbone/student_map", "backbone/early"]


def test_stage_can_swap_images(run):
    def dark(images):
        return images.map(lambda batch: batch // 255)

    noted = []

    def losses(stage, steps):
        return [
            keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: noted.append(logs["loss"]))
        ]

    slow = Stage(soft, 1, lambda steps: keras.optimizers.SGD(0.0))
    swapped = Stage(soft, 1, lambda steps: keras.optimizers.SGD(0.0), images=dark)
    run(slow, swapped, slow, callbacks=losses)
    # Batch norm sees other batches in another order.
    assert noted[0] == pytest.approx(noted[2], rel=3e-3)
    assert noted[1] != pytest.approx(noted[0], rel=2e-2)


def test_images_of_another_number_of_batches_are_refused(run):
    with pytest.raises(ValueError, match="as many batches as the training's. Received: 2 .* has 3"):
        run(Stage(soft, 1, sgd, images=lambda images: images.take(2)))


@pytest.mark.matrix(keep=1)
@pytest.mark.parametrize("step", [4, 5, 8])  # Three steps an epoch, counted over all stages.
def test_interrupted_stages_go_on_to_the_same_end(run, tmp_path, stop_at, step):
    """In the second stage, whose terms came from the first and are frozen in part, and after it."""
    stages = (
        Stage(both, 1, sgd),
        Stage(both, 1, sgd, freeze=["backbone"]),
        Stage(soft, 1, sgd),
    )
    whole = run(*stages)
    stop = stop_at(step)
    with pytest.raises(Interrupted):
        run(*stages, keeping=Keeping(tmp_path), callbacks=lambda *_: [stop])
    resumed = run(*stages, keeping=Keeping(tmp_path))
    assert resumed.history == whole.history
    weights = zip(whole.amalgamator.get_weights(), resumed.amalgamator.get_weights(), strict=True)
    assert all((a == b).all() for a, b in weights)


def test_history_pads_what_an_epoch_does_not_have():
    state = State().with_epoch({"loss": 3.0}).with_epoch({"loss": 2.0, "space": 1.0})
    state = state.with_epoch({"loss": 1.0})
    assert state.history == {"loss": [3.0, 2.0, 1.0], "space": [None, 1.0, None]}
    assert state.epochs == 3

"""Choosing between methods: what agreement counts, who wins, and that a choice can go on."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amalgam as ka
from keras_amalgam import data
from keras_amalgam.tasks.label_space import LabelSpace
from keras_amalgam.training import Method, Stage, agreement, choose, train
from keras_amalgam.training.choosing import shortened
from keras_amalgam.training.interruption import Interrupted
from keras_amalgam.training.keeping import Keeping
from keras_amalgam.training.methods import reused_heads


def backbone():
    inputs = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="student_map")(inputs)
    return keras.Model(inputs, keras.layers.ReLU()(x), name="backbone")


def adam(rate):
    return lambda steps: keras.optimizers.Adam(rate)


def method(name, rate, epochs=10):
    return Method(name, (Stage(lambda: [ka.SoftTargets()], epochs, adam(rate)),))


@pytest.fixture
def batches(make):
    images = make.images(24, seed=1)
    source = np.tile([0, 1, -1], 8).astype("int32")
    return tf.data.Dataset.from_tensor_slices({"image": images, "source": source}).batch(10)


@pytest.fixture
def run(teachers, make, batches, eagerly):
    images = make.images(24)

    def go(*methods, kept_aside=batches, **settings):
        stream = data.stream(data.from_arrays(images), batch_size=8, seed=3)
        return choose(
            methods, teachers, lambda: ka.build_student(backbone(), teachers),
            "backbone/student_map", stream, kept_aside, verbose=0, **settings,
        )  # fmt: skip

    return go


def decisions(teachers, student, batches):
    """Classes chosen by student and teachers, and the sources, of all images."""
    elements = [*batches.as_numpy_iterator()]
    images = np.concatenate([one["image"] for one in elements])
    own = {name: np.asarray(value) for name, value in student(images).items()}
    theirs = {t.name: np.asarray(t.answers(1)(images)[t.name]).argmax(-1) for t in teachers}
    return own, theirs, np.concatenate([one["source"] for one in elements])


def test_agreement_counts_each_teacher_on_its_own_images_and_unknown_ones(teachers, batches):
    student = ka.build_student(backbone(), teachers)
    own, theirs, source = decisions(teachers, student, batches)
    agreed = agreement(student, teachers, batches)
    assert agreed.num_images == 24
    for number, teacher in enumerate(teachers):
        mine = (source == number) | (source == -1)
        alike = own[teacher.name].argmax(-1) == theirs[teacher.name]
        assert agreed.tasks[teacher.name] == pytest.approx(alike[mine].mean())


def test_joint_agreement_is_with_the_teacher_of_the_images_source(teachers, batches):
    student = ka.build_student(backbone(), teachers)
    own, theirs, source = decisions(teachers, student, batches)
    space = LabelSpace({t.name: t.class_names for t in teachers})
    decided = np.asarray(space.join(own)).argmax(-1)
    alike = [
        decided[image] == space.indices[teachers[number].name][theirs[teachers[number].name][image]]
        for image, number in enumerate(source)
        if number >= 0
    ]
    assert agreement(student, teachers, batches).joint == pytest.approx(np.mean(alike))


def test_without_sources_every_image_counts_and_there_is_no_joint_agreement(teachers, batches):
    student = ka.build_student(backbone(), teachers)
    own, theirs, _ = decisions(teachers, student, batches)
    agreed = agreement(student, teachers, batches.map(lambda batch: batch["image"]))
    assert agreed.joint is None
    for name, chosen in theirs.items():
        assert agreed.tasks[name] == pytest.approx((own[name].argmax(-1) == chosen).mean())


def test_signals_that_come_with_the_images_are_believed(teachers, make):
    student = ka.build_student(backbone(), teachers)
    images = make.images(8).astype("float32")
    answers = {name: np.asarray(value) for name, value in student(images).items()}
    signals = {name: {"answers": {name: value}} for name, value in answers.items()}
    given = tf.data.Dataset.from_tensors({"image": images, "signals": signals})
    assert set(agreement(student, teachers, given).tasks.values()) == {1.0}


def test_method_whose_student_agrees_best_is_chosen_at_its_full_length(run):
    idle, learning = method("idle", 0.0), method("learning", 0.05, epochs=15)
    choice = run(idle, learning, share=0.8)
    assert choice.method is learning
    still, trained = choice.trials
    assert (still.method, still.epochs, trained.epochs) == ("idle", 8, 12)
    assert trained.agreement.score("tasks") > still.agreement.score("tasks")
    assert trained.seconds > 0


def test_methods_with_students_of_their_own_are_compared_too(run, teachers):
    reused = reused_heads(
        teachers, lambda: ka.build_student(backbone(), teachers, heads="reused"), epochs=5
    )
    choice = run(method("soft", 0.01), reused, by="joint")
    assert [trial.method for trial in choice.trials] == ["soft", "reused_heads"]
    joint = [trial.agreement.joint for trial in choice.trials]
    assert choice.method.name == choice.trials[int(np.argmax(joint))].method


def test_shortened_method_has_a_share_of_each_stage_and_at_least_one_epoch():
    stage = method("any", 0.1, epochs=10).stages[0]
    whole = Method("any", (stage, replace(stage, epochs=2, steps=30)), seed=4)
    short = shortened(whole, 0.2)
    assert [(one.epochs, one.steps) for one in short.stages] == [(2, None), (1, 6)]
    assert (short.name, short.seed) == ("any", 4)


@pytest.mark.slow
def test_interrupted_choice_goes_on_to_the_same_end(run, tmp_path, stop_at):
    candidates = method("slow", 0.001, epochs=5), method("fast", 0.01)

    def keeping(one):
        return Keeping(tmp_path / one.name)

    whole = run(*candidates)
    stop = stop_at(4)
    with pytest.raises(Interrupted):
        run(
            *candidates,
            keeping=keeping,
            callbacks=lambda one, *_: [stop] if one.name == "fast" else [],
        )
    resumed = run(*candidates, keeping=keeping)
    assert [t.agreement for t in resumed.trials] == [t.agreement for t in whole.trials]
    assert resumed.method.name == whole.method.name


def test_chosen_method_trains_as_any_other(run, teachers, make):
    choice = run(method("a", 0.01, epochs=2), method("b", 0.02, epochs=2))
    stream = data.stream(data.from_arrays(make.images(24)), batch_size=8, seed=3)
    trained = train(
        choice.method, teachers, lambda: ka.build_student(backbone(), teachers),
        "backbone/student_map", stream, verbose=0,
    )  # fmt: skip
    assert len(trained.history["loss"]) == 2


def test_method_that_does_not_fit_is_refused_before_any_is_trained(run):
    (stage,) = method("a", 0.1).stages
    trains = Method("a", (replace(stage, optimizer=lambda steps: pytest.fail("It trains.")),))
    tapless = Method("b", (replace(stage, terms=lambda: [ka.Hints(taps="top")]),))
    with pytest.raises(ValueError, match="Hints"):
        run(trains, tapless)
    other = Method("b", (replace(stage, images=lambda images: images.take(1)),))
    with pytest.raises(ValueError, match="as many batches as the training's"):
        run(trains, other)


def test_method_that_diverges_is_out_with_a_warning(run, monkeypatch):
    with pytest.warns(UserWarning, match="'wild' is left out: The loss is no longer finite"):
        choice = run(*iter([method("wild", 1e30), method("a", 0.01)]))
    assert choice.method.name == "a" and list(choice.diverged) == ["wild"]
    assert [trial.method for trial in choice.trials] == ["a"]
    with (
        pytest.warns(UserWarning, match="is left out"),
        pytest.raises(FloatingPointError, match="No method stayed finite"),
    ):
        run(method("wild", 1e30), method("too", 1e30))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda x: {**x, "image": x["image"] * np.nan}, ValueError, "kept aside.*NaN"),
        (lambda x: {**x, "image": x["image"] / 255}, ValueError, "kept aside.*0..1|0..255"),
        (lambda x: {**x, "source": x["source"] + 2}, ValueError, r"Received: \[2, 3\]"),
        (lambda x: {**x, "image": np.repeat(x["image"], 3, -1)}, ValueError, "the channels"),
        (lambda x: x["image"], TypeError, "must be batches of images. Received: a .*ndarray"),
    ],
    ids=["nan", "range", "stranger", "channels", "array"],
)
def test_images_kept_aside_are_looked_at(run, make, change, error, says):
    kept = {"image": make.images(8).astype("float32"), "source": np.tile([0, 1], 4)}
    kept = change(kept)
    if isinstance(kept, dict):
        kept = tf.data.Dataset.from_tensor_slices(kept).batch(4)
    trains = method("a", 0.1)
    trains = replace(trains, stages=(replace(trains.stages[0], optimizer=None),))
    with pytest.raises(error, match=says):
        run(trains, method("b", 0.1), kept_aside=kept)


def test_choices_that_cannot_be_made_are_refused(run, make):
    one, other = method("a", 0.1), method("b", 0.1)
    for methods in ([one], [one, one]):
        with pytest.raises(ValueError, match="two or more methods to choose from"):
            run(*methods)
    with pytest.raises(ValueError, match="`share` must be above 0"):
        run(one, other, share=0.0)
    with pytest.raises(ValueError, match="`by` must be one of"):
        run(one, other, by="loss")
    one = Method("a", (replace(one.stages[0], terms=lambda: pytest.fail("It trains.")),))
    images = tf.data.Dataset.from_tensors(make.images(4))
    with pytest.raises(ValueError, match="images kept aside whose source is known"):
        run(one, other, kept_aside=images, by="joint")
    only_first = images.map(lambda x: {"image": x, "source": tf.zeros(4, tf.int32)})
    with pytest.raises(ValueError, match=r"4 images, none of \['shapes'\]"):
        run(one, other, kept_aside=only_first)

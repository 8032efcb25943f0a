"""The methods known from papers: what they train with, whom they refuse, and that they train."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amalgam as ka
from keras_amalgam import data
from keras_amalgam.terms import SoftTargets
from keras_amalgam.training import Beyond, Method, Stage, UpTo, cosine_adamw, methods, train
from keras_amalgam.training.interruption import Interrupted
from keras_amalgam.training.keeping import Keeping
from keras_amalgam.training.methods.proxy import heads_as_teachers


def backbone(width=4):
    inputs = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(width, 3, strides=2, padding="same")(inputs)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(inputs, keras.layers.ReLU(name="student_map")(x), name="backbone")


def reusing(teachers):
    return ka.build_student(backbone(), teachers, heads="reused")


@pytest.fixture
def run(teachers, make, eagerly):
    images = make.images(24)

    def go(method, callbacks=lambda *_: (), keeping=None, augmentation=None):
        stream = data.stream(
            {"digits": data.from_arrays(images)}, batch_size=8, seed=3, augmentation=augmentation
        )
        return train(
            method, teachers, lambda: ka.build_student(backbone(), teachers),
            "backbone/student_map", stream, callbacks=callbacks, keeping=keeping, verbose=0,
        )  # fmt: skip

    return go


def stage_of(method):
    (stage,) = method.stages
    return stage


def test_paper_is_variant_a_with_the_published_weights(teachers):
    stage = stage_of(methods.paper(teachers))
    soft, space = stage.terms()
    assert (soft.ownership, soft.temperature, soft.weight) == ("joint", 1.0, 1.0)
    assert (space.units, space.weight, space.variant) == (128, 10.0, "A")
    assert len(space.bandwidths) == 7 and not space.adapts
    rates = stage.optimizer(100)._learning_rate
    assert [float(rates(step)) for step in (0, 49, 51, 99)] == pytest.approx(
        [1e-4, 1e-4, 1e-5, 1e-5]
    )


def test_matching_clips_averages_and_ends_at_a_rate_of_zero(teachers):
    stage = stage_of(methods.matching(teachers, ownership="source", temperature=2.0))
    (soft,) = stage.terms()
    assert (soft.ownership, soft.temperature) == ("source", 2.0)
    optimizer = stage.optimizer(1000)
    assert optimizer.global_clipnorm == 1.0 and optimizer.use_ema
    assert optimizer.ema_momentum == pytest.approx(1 - 1 / 20)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 50, 1000)]
    assert rates == pytest.approx([0.0, 3e-3, 0.0], abs=1e-8)


@pytest.mark.parametrize("augmentation", [None, data.Augmentation(zoom=0.2)], ids=["no", "zoom"])
def test_matching_is_refused_for_a_stream_that_mixes_nothing_up(run, teachers, augmentation):
    with pytest.raises(ValueError, match="mixed up. Received: .* without mixup for .'digits'"):
        run(methods.matching(teachers, epochs=1), augmentation=augmentation)


def test_matching_takes_images_from_elsewhere(teachers, make, eagerly):
    images = tf.data.Dataset.from_tensor_slices(make.images(16)).batch(8)
    method = methods.matching(teachers, epochs=1)
    student = ka.build_student(backbone(), teachers)
    assert train(method, teachers, lambda: student, None, images, verbose=0).seconds > 0


def test_matching_leaves_the_average_of_the_students_weights(run, teachers):
    last = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: last.append(
            [w.copy() for w in note.model.student.get_weights()]
        )
    )
    mixed = data.Augmentation(mixup=1.0)
    trained = run(methods.matching(teachers, epochs=2), lambda *_: [note], augmentation=mixed)
    kernel, left = last[-1][0], trained.amalgamator.student.get_weights()[0]
    assert np.abs(kernel - left).max() > 1e-6
    steps = np.array([weights[0] for weights in last])
    assert (steps.min(0) - 1e-6 <= left).all() and (left <= steps.max(0) + 1e-6).all()


@pytest.mark.matrix(keep=1)
@pytest.mark.parametrize("name", ["paper", "standardized"])
def test_method_trains_to_lower_losses(run, teachers, name):
    narrow = {"units": 8} if name == "paper" else {}
    history = run(getattr(methods, name)(teachers, epochs=6, learning_rate=1e-2, **narrow)).history
    terms = {key for key in history if "/" not in key}
    assert len(terms) == 3
    assert history["loss"][-1] < history["loss"][0]


def test_reused_heads_trains_a_student_of_its_own(run, teachers):
    method = methods.reused_heads(teachers, lambda: reusing(teachers), epochs=8, learning_rate=1e-2)
    trained = run(method)
    student = trained.amalgamator.student
    assert trained.history["rebuilt_features"][-1] < trained.history["rebuilt_features"][0]
    assert student.get_layer("digits_rebuilt").filters == 6
    head = student.get_layer("digits").get_weights()
    for mine, its in zip(head, teachers[0].answering().get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)


def proxies(teachers, epochs=(1, 2)):
    return methods.proxy(
        teachers,
        large=lambda: ka.build_student(backbone(9), teachers),
        small=lambda: ka.build_student(backbone(3), teachers),
        epochs=epochs,
    )


def test_proxy_teaches_the_small_student_by_the_large_one_alone(run, teachers, make):
    amalgamators = []
    note = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: amalgamators.append(note.model)
    )
    trained = run(proxies(teachers), callbacks=lambda *_: [note])
    large, small = amalgamators
    assert small.student is trained.amalgamator.student
    assert large.student.count_params() > small.student.count_params()
    images = make.images(6).astype("float32")
    _, signals = small.signals(images)
    for task, answer in large.student(images).items():
        np.testing.assert_allclose(signals[task].answers[task], answer, atol=1e-5)
    assert [value is None for value in trained.history["proxy_targets"]] == [True, False, False]


def test_proxy_settles_in_one_softmax_only_what_its_heads_were_compared_in(teachers):
    def ownerships(**settings):
        made = methods.proxy(teachers, lambda: None, lambda: None, **settings)
        return [stage.terms()[0].ownership for stage in made.stages]

    assert ownerships() == ["joint", "joint"]
    assert ownerships(ownership="source") == ["source", "joint"]
    assert ownerships(ownership="per_task") == ["per_task", "per_task"]


def test_epochs_of_stages_must_be_one_for_each(teachers):
    for epochs in (15, (1, 2, 3)):
        with pytest.raises(ValueError, match="'proxy' takes the epochs of each of its 2 stages"):
            proxies(teachers, epochs)
    alike = [teachers[0]]
    with pytest.raises(ValueError, match="'layerwise' takes the epochs of each of its 3 stages"):
        methods.layerwise(alike, epochs=(1, 2))


@pytest.mark.parametrize("name", ["paper", "matching", "standardized"])
def test_settings_out_of_range_are_refused_when_the_method_is_made(teachers, name):
    for settings in ({"learning_rate": -1.0}, {"epochs": 0}):
        with pytest.raises(ValueError, match="learning_rate|whole numbers of epochs"):
            getattr(methods, name)(teachers, **settings)
    with pytest.raises(ValueError, match="units"):
        methods.paper(teachers, units=0)


@pytest.mark.slow
def test_interrupted_proxy_goes_on_to_the_same_end(run, teachers, tmp_path, stop_at):
    whole = run(proxies(teachers))
    stop = stop_at(5)  # In the second stage, taught by what the first one left.
    with pytest.raises(Interrupted):
        run(proxies(teachers), callbacks=lambda *_: [stop], keeping=Keeping(tmp_path))
    kept = tmp_path / "student_000.npz"
    content = kept.read_bytes()
    kept.write_bytes(content[:100])
    with pytest.raises(ValueError, match="stage 1 trained cannot be read"):
        run(proxies(teachers), keeping=Keeping(tmp_path))
    kept.write_bytes(content)
    resumed = run(proxies(teachers), keeping=Keeping(tmp_path))
    assert resumed.history == whole.history
    weights = zip(whole.amalgamator.get_weights(), resumed.amalgamator.get_weights(), strict=True)
    assert all((a == b).all() for a, b in weights)


def test_heads_of_a_student_are_teachers_of_its_answers(teachers, make):
    student = ka.build_student(backbone(), teachers)
    images = make.images(5).astype("float32")
    for teacher in heads_as_teachers(student):
        answer = teacher.answers(1)(images)[teacher.name]
        np.testing.assert_allclose(answer, student(images)[teacher.name], atol=1e-6)


def two_taps(width=4):
    inputs = keras.Input((12, 12, 1))
    x = inputs
    for name in ("first", "second"):
        x = keras.layers.Conv2D(width, 3, strides=2, padding="same", name=name)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
    return keras.Model(inputs, x, name="backbone")


TWO_TAPS = {"mid": "backbone/first_relu", "top": "backbone/second_relu"}


def tapped_twice(name, classes, seed, width=6, taps=("a", "b"), **settings):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((12, 12, 1))
    settings = {"strides": 2, "activation": "elu", "padding": "same"} | settings
    x = keras.layers.Conv2D(width, 3, name="a", **settings)(inputs)
    x = keras.layers.Conv2D(width + 2, 3, strides=2, activation="elu", padding="same", name="b")(x)
    x = keras.layers.Dense(len(classes))(keras.layers.GlobalAveragePooling2D()(x))
    return ka.Teacher(
        keras.Model(inputs, x), name, classes, taps=dict(zip(("mid", "top"), taps, strict=True)),
        preprocessing=ka.Preprocessing((12, 12)),
    )  # fmt: skip


@pytest.fixture
def twins():
    return [tapped_twice("digits", ["0", "1", "2"], 1), tapped_twice("shapes", ["o", "x"], 2)]


@pytest.fixture
def run_twice_tapped(make, eagerly):
    images = make.images(24)

    def go(method, teachers):
        trained, noted = [], []

        def weights(amalgamator):
            parts = [amalgamator.student, *amalgamator.terms]
            return [w.copy() for part in parts for w in part.get_weights()]

        note = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: noted.append(weights(note.model)),
            on_train_end=lambda logs: trained.append(
                [(a != b).any() for a, b in zip(noted[-1], weights(note.model), strict=True)]
            ),
        )
        stream = data.stream(data.from_arrays(images), batch_size=8, seed=3)
        result = train(
            method, teachers, lambda: ka.build_student(two_taps(), teachers), TWO_TAPS, stream,
            callbacks=lambda *_: [note], verbose=0,
        )  # fmt: skip
        return result, trained

    return go


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"activation": "tanh"}, "activation elu and tanh"),
        ({"strides": 1, "dilation_rate": 2}, r"strides \(2, 2\) and \(1, 1\); dilation_rate"),
        ({"padding": "valid"}, "padding same and valid"),
    ],
)
def test_layerwise_is_refused_for_layers_of_other_settings(twins, settings, says):
    other = tapped_twice("odd", ["o", "x"], 2, **settings)
    with pytest.raises(ValueError, match=f"one architecture.*Conv2D, {says}"):
        methods.layerwise([twins[0], other])
    methods.layerwise(twins)


def test_progressive_is_refused_for_taps_out_of_the_order_of_their_depth():
    teacher = tapped_twice("digits", ["0", "1"], 1, taps=("b", "a"))
    with pytest.raises(ValueError, match="'top' does not lie behind 'mid'"):
        methods.progressive([teacher])


def test_stage_that_leaves_nothing_of_the_student_is_refused(run_twice_tapped, twins):
    """As when the student's taps are in another order than the teacher's."""
    stage = Stage(
        lambda: [SoftTargets()], 1, cosine_adamw(1e-3), freeze=[UpTo("top"), Beyond("mid")]
    )
    with pytest.raises(ValueError, match="leaves nothing of the student to be trained"):
        run_twice_tapped(Method("odd", (stage,)), twins)


def test_layerwise_learns_codes_then_the_students_layers_then_its_answers(twins, run_twice_tapped):
    method = methods.layerwise(twins, epochs=(3, 2, 2), learning_rate=1e-2)
    result, (codes, layers, tuning) = run_twice_tapped(method, twins)
    history = result.history
    student = 2 * 6 + 2 * 2  # Two normalised convolutions, two heads.
    terms = [codes[student:], layers[student:]]
    # Of each tap an encoder and a decoder, then the regressor.
    (autoencoded, _), (kept, regressed) = (
        ([*term[:2], *term[3:5]], [term[2], term[5]]) for term in terms
    )
    assert not any(codes[:student]) and all(autoencoded)
    assert all(layers[:12]) and not any(layers[12:student])  # The heads have no loss yet.
    assert not any(kept) and all(regressed) and all(tuning)
    rebuilt = history["layerwise_codes/digits/top.reconstruction"]
    assert rebuilt[2] < rebuilt[0]
    code = history["layerwise_codes/digits/top.code"]
    assert code[4] < code[3]
    assert history["logit_regression"][-1] < history["logit_regression"][5]


def test_layerwise_refuses_teachers_of_two_architectures_saying_where_they_differ(twins):
    wider = tapped_twice("shapes", ["o", "x"], 2, width=7)
    with pytest.raises(ValueError, match=r"'digits' and 'shapes', whose layers .* number 1: Conv"):
        methods.layerwise([twins[0], wider])
    other = ka.Teacher(
        twins[1].model, "shapes", ["o", "x"], tap="b", preprocessing=ka.Preprocessing((12, 12))
    )
    with pytest.raises(ValueError, match=r"\['mid', 'top'\], 'shapes' with taps \['features'\]"):
        methods.layerwise([twins[0], other])


def test_progressive_fits_block_after_block_and_leaves_the_earlier_ones(twins, run_twice_tapped):
    teacher = twins[:1]
    method = methods.progressive(teacher, epochs=3, tuning=2, learning_rate=1e-2)
    result, (first, second, tuning) = run_twice_tapped(method, teacher)
    assert all(first[:6]) and not any(first[6:12])
    assert not any(second[:6]) and all(second[6:12]) and all(tuning[:14])
    hints = [result.history["hints_at_mid"][:3], result.history["hints_at_top"][3:6]]
    assert all(values[-1] < values[0] for values in hints)


def test_progressive_refuses_several_teachers(twins):
    with pytest.raises(ValueError, match=r"blocks of one teacher. Received: 2 teachers, \['dig"):
        methods.progressive(twins)


def test_teachers_that_a_method_cannot_serve_are_refused_before_anything_runs(teachers):
    bare = ka.Teacher(
        teachers[1].model, "shapes", ["circle", "square"],
        preprocessing=teachers[1].preprocessing,
    )  # fmt: skip
    mixed = [teachers[0], bare]
    for method in (methods.paper, methods.standardized):
        with pytest.raises(ValueError, match=r"without a tap, \['shapes'\]"):
            method(mixed)
    with pytest.raises(ValueError, match=r"without a tap, \['shapes'\]"):
        methods.reused_heads(mixed, lambda: reusing(mixed))
    with pytest.raises(TypeError, match="must be a list of Teacher"):
        methods.matching([teachers[0].model])
    with pytest.raises(ValueError, match="`ownership` must be"):
        methods.matching(teachers, ownership="nobody")
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        proxies_at = {"large": backbone, "small": backbone, "temperature": 0.0}
        methods.proxy(teachers, **proxies_at)


def test_head_that_hangs_on_more_than_its_tap_is_refused_by_reused_heads():
    inputs = keras.Input((12, 12, 1))
    early = keras.layers.Conv2D(4, 3, padding="same", name="early")(inputs)
    x = keras.layers.Conv2D(4, 3, padding="same", name="map")(early)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add(name="merged")([x, early]))
    teacher = ka.Teacher(
        keras.Model(inputs, keras.layers.Dense(2)(x)), "digits", ["0", "1"], tap="map",
        preprocessing=ka.Preprocessing((12, 12)),
    )  # fmt: skip
    with pytest.raises(ValueError, match="which also reads 'early'"):
        methods.reused_heads([teacher], lambda: reusing([teacher]))


def test_first_stage_without_a_student_before_it_has_no_teachers_to_make(teachers):
    first = methods.matching(teachers).stages[0]
    with pytest.raises(ValueError, match="first stage of 'odd' has no student before it"):
        Method("odd", (replace(first, teachers=heads_as_teachers),))

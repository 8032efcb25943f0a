"""The training step: what it computes, what it leaves alone, what it refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amalgam as ka
from keras_amalgam.training.graphs import Graphs


def weights_of(*models):
    return [value.copy() for model in models for value in model.get_weights()]


def assert_same_weights(before, after):
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_teacher_weights_are_bit_identical_after_fit(build, teachers, make):
    model = build(eagerly=True)
    before = weights_of(*(teacher.model for teacher in teachers))
    student_before = weights_of(model.student)
    model.fit(make.images(), batch_size=8, epochs=2, verbose=0)
    assert_same_weights(before, weights_of(*(teacher.model for teacher in teachers)))
    assert any(
        (a != b).any() for a, b in zip(student_before, weights_of(model.student), strict=True)
    )


def test_fit_lowers_every_term(build, make):
    model = build()
    history = model.fit(make.images(64), batch_size=16, epochs=15, verbose=0).history
    for key in ("soft_targets", "common_features"):
        assert history[key][-1] < history[key][0]


def test_student_runs_once_per_step(build, teachers, make):
    calls = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            calls.append(1)
            return x

    inputs = keras.Input((12, 12, 1))
    x = Counting()(keras.layers.Conv2D(4, 3, strides=2, padding="same")(inputs))
    x = keras.layers.ReLU(name="student_map")(x)
    student = ka.build_student(keras.Model(inputs, x), teachers)
    model = build(student=student, eagerly=True)
    calls.clear()
    model.fit(make.images(8), batch_size=8, epochs=1, verbose=0)
    assert len(calls) == 1


def test_training_runs_a_users_block_that_is_named_like_a_resize_of_ours(make):
    """The canvas has the size in the name: a resize to it would be left out, and its block was."""
    keras.utils.set_random_seed(0)
    teacher = make.teacher("digits", ["0", "1", "2"])
    image = keras.Input((None, None, 1))
    layers = [keras.Input((None, None, 1)), keras.layers.Resizing(12, 12)]
    block = keras.Sequential([*layers, keras.layers.Rescaling(1 / 255)], name="resize_12x12")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(block(image)))
    student = keras.Model(image, {"digits": keras.layers.Dense(3, name="digits")(x)})
    graphs, images = Graphs(student, [teacher], {}), make.images(4)
    assert images.shape[1:3] == (12, 12)
    seen = graphs.student(images, training=False).answers["digits"]
    np.testing.assert_allclose(seen, student(images, training=False)["digits"], atol=1e-5)


def test_history_parts_sum_to_their_wholes(build, make):
    model = build(regularizer=keras.regularizers.L2(0.01), eagerly=True)
    history = model.fit(make.images(), batch_size=8, verbose=0).history
    value = {key: values[-1] for key, values in history.items()}
    for term in ("soft_targets", "common_features"):
        assert value[term] == pytest.approx(
            value[f"{term}/digits"] + value[f"{term}/shapes"], rel=1e-5
        )
    for teacher in ("digits", "shapes"):
        parts = [value[f"common_features/{teacher}/{part}"] for part in ("mmd", "reconstruction")]
        assert value[f"common_features/{teacher}"] == pytest.approx(sum(parts), rel=1e-5)
    regularization = value["loss"] - value["soft_targets"] - value["common_features"]
    assert regularization > 1e-4


def test_step_equals_a_hand_written_one(build, teachers, make):
    """SGD by hand: soft targets on the concatenated logits, gradient of the student alone."""
    images = make.images(8)
    model = build(terms=[ka.SoftTargets()])
    reference = keras.models.clone_model(model.student)
    reference.set_weights(model.student.get_weights())
    target = tf.nn.softmax(
        tf.concat([t.answers(1)(images.astype("float32"))[t.name] for t in teachers], -1)
    )
    with tf.GradientTape() as tape:
        out = reference(images.astype("float32"), training=True)
        joint = tf.concat([out["digits"], out["shapes"]], -1)
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(target, joint))
    gradients = tape.gradient(loss, reference.trainable_weights)
    for weight, gradient in zip(reference.trainable_weights, gradients, strict=True):
        weight.assign_sub(0.05 * gradient)
    history = model.fit(images, batch_size=8, shuffle=False, verbose=0).history
    assert history["loss"][0] == pytest.approx(float(loss), rel=1e-5)
    for ours, theirs in zip(model.student.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_evaluate_changes_no_variable_and_repeats_itself(build, teachers, make):
    model = build(eagerly=True)
    model.fit(make.images(), batch_size=8, verbose=0)
    before = weights_of(model, *(teacher.model for teacher in teachers))
    first = model.evaluate(make.images(seed=3), batch_size=8, verbose=0, return_dict=True)
    assert_same_weights(before, weights_of(model, *(teacher.model for teacher in teachers)))
    assert first == model.evaluate(make.images(seed=3), batch_size=8, verbose=0, return_dict=True)


def test_teachers_are_not_among_the_weights(build, teachers):
    model = build()
    ours = {id(variable) for variable in model.variables}
    assert not any(id(v) in ours for teacher in teachers for v in teacher.model.variables)
    assert len(model.student.variables) > 0


@pytest.mark.parametrize(
    "compile_with",
    [
        pytest.param({"jit_compile": True}, id="xla", marks=pytest.mark.slow),
        pytest.param({"steps_per_execution": 4}, id="steps", marks=pytest.mark.slow),
    ],
)
def test_fit_is_the_same_under(build, make, compile_with):
    images = make.images(32)
    plain, other = build(), build(compile_with=compile_with)
    other.set_weights(plain.get_weights())
    for model in (plain, other):
        model.fit(images, batch_size=8, shuffle=False, verbose=0)
    for a, b in zip(plain.student.get_weights(), other.student.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_fit_lowers_the_loss_under(build, make, policy):
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        model = build()
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert (type(model.optimizer).__name__ == "LossScaleOptimizer") == (policy == "mixed_float16")
    history = model.fit(make.images(64), batch_size=16, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert {v.dtype for v in model.predict(make.images(2), verbose=0).values()} == {
        np.dtype("float32")
    }


def test_sources_reach_the_terms(build, make):
    data = {"image": make.images(16), "source": np.arange(16, dtype="int32") % 2}
    model = build(terms=[ka.SoftTargets(ownership="source")])
    assert model.fit(data, batch_size=8, verbose=0).history["soft_targets/shapes"][0] > 0
    with pytest.raises(ValueError, match="where each image came from"):
        model.fit(make.images(16), batch_size=8, verbose=0)
    with pytest.raises(ValueError, match=r"Received: \[2\] for the teachers"):
        model.fit(data | {"source": data["source"] + 1}, batch_size=8, verbose=0)


@pytest.mark.slow
def test_resumed_training_equals_an_unbroken_one(build, teachers, make, tmp_path):
    images = make.images(16)
    unbroken = build()
    unbroken.compile(optimizer=keras.optimizers.Adam(0.01), run_eagerly=True)
    unbroken.fit(images, batch_size=8, epochs=1, shuffle=False, verbose=0)
    unbroken.save(tmp_path / "half.keras")
    resumed = ka.Amalgamator.load(tmp_path / "half.keras", teachers)
    assert resumed.run_eagerly
    for model in (unbroken, resumed):
        model.fit(images, batch_size=8, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(unbroken.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_plain_load_model_advises_amalgamator_load(build, tmp_path):
    build().save(tmp_path / "a.keras")
    with pytest.raises(ValueError, match=r"Amalgamator.load\(path, teachers\)"):
        keras.saving.load_model(tmp_path / "a.keras")


def test_damaged_checkpoint_is_refused_as_such(build, teachers, tmp_path):
    path = tmp_path / "a.keras"
    build().save(path)
    content = path.read_bytes()
    without_list = content.replace(b"PK\x01\x02", b"PK\x00\x02", 1)
    for damaged in (content[: len(content) // 2], without_list, b"weights"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is not a whole .keras file"):
            ka.Amalgamator.load(path, teachers)


def test_resuming_with_other_teachers_is_refused_saying_what_differs(
    build, teachers, make, tmp_path
):
    build().save(tmp_path / "a.keras")
    other = make.teacher("shapes", ["circle", "square"], size=(16, 16), width=5, seed=99)
    with pytest.raises(ValueError, match=r"another teacher 'shapes'.*weights_sha256"):
        ka.Amalgamator.load(tmp_path / "a.keras", [teachers[0], other])
    with pytest.raises(ValueError, match="There is no file to load. Received: .*nowhere.keras"):
        ka.Amalgamator.load(tmp_path / "nowhere.keras", teachers)
    with pytest.raises(ValueError, match="in this order"):
        ka.Amalgamator.load(tmp_path / "a.keras", teachers[::-1])


@pytest.mark.slow
def test_backup_and_restore_and_model_checkpoint_work(build, teachers, make, tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    callbacks = [
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        keras.callbacks.ModelCheckpoint(tmp_path / "epoch.keras"),
    ]
    with pytest.raises(KeyboardInterrupt):
        build().fit(
            make.images(), batch_size=8, epochs=2, verbose=0, callbacks=[*callbacks, Interrupt()]
        )
    history = build().fit(make.images(), batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
    assert history.epoch == [1]
    assert ka.Amalgamator.load(tmp_path / "epoch.keras", teachers).optimizer.iterations == 4


def test_student_alone_predicts_what_the_amalgamator_predicts(build, make):
    model = build()
    images = make.images(4)
    expected = model.student.predict(images, verbose=0)
    for name, values in model.predict(images, verbose=0).items():
        np.testing.assert_array_equal(values, expected[name])


def test_xla_is_refused_for_a_teacher_that_cannot(teachers, make):
    teacher = ka.Teacher(
        teachers[0].model,
        "digits",
        class_names=["0", "1", "2"],
        preprocessing=ka.Preprocessing((12, 12), interpolation="bicubic", antialias=False),
    )
    model = ka.Amalgamator(make.student([teacher]), [teacher])
    with pytest.raises(ValueError, match="antialiasing"):
        model.compile(jit_compile=True)
    model.compile()
    assert model.jit_compile is False

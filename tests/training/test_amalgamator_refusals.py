"""What the amalgamator refuses, at construction, before the first step, and while it trains."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amalgam as ka


def test_labels_given_by_habit_are_refused(build, make):
    images, labels = make.images(8), np.zeros(8, "int32")
    labelled = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    model = build()
    for arguments in ((images, labels), (labelled,)):
        with pytest.raises(ValueError, match="without labels"):
            model.fit(*arguments, verbose=0)
    with pytest.raises(ValueError, match="Nothing is labelled"):
        model.compile(loss="mse")


def test_weights_are_refused(build, make):
    images = make.images(8)
    for weights in ({"sample_weight": np.ones(8)}, {"class_weight": {0: 1.0}}):
        with pytest.raises(ValueError, match="cannot be weighted"):
            build().fit(images, verbose=0, **weights)


def test_a_nan_in_a_later_batch_stops_the_training_before_it_reaches_the_student(build, make):
    images = make.images(16).astype("float32")
    images[12, 3, 3, 0] = np.nan
    model = build(eagerly=True)
    with pytest.raises(ValueError, match="finite and in 0..255. Received: a later batch"):
        model.fit(tf.data.Dataset.from_tensor_slices(images).batch(4), verbose=0)
    assert all(np.isfinite(weights).all() for weights in model.student.get_weights())


def test_evaluation_and_validation_images_are_looked_at_too(build, make):
    images = make.images(8)
    model = build(eagerly=True)
    for wrong in (images / 255, tf.data.Dataset.from_tensor_slices(images / 255).batch(4)):
        with pytest.raises(ValueError, match="0..1"):
            model.evaluate(wrong, verbose=0)
        with pytest.raises(ValueError, match="0..1"):
            model.fit(images, validation_data=wrong, batch_size=4, verbose=0)
    with pytest.raises(ValueError, match="without labels"):
        model.fit(images, validation_data=(images, np.zeros(8)), batch_size=4, verbose=0)
    history = model.fit(images, validation_data=images, batch_size=4, epochs=2, verbose=0).history
    expected = model.evaluate(images, batch_size=4, return_dict=True, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(expected["loss"], rel=1e-5)


def test_empty_data_is_refused(build, make):
    empty = tf.data.Dataset.from_tensor_slices(make.images(2)).batch(4, drop_remainder=True)
    for data in (empty, make.images(0)):
        with pytest.raises(ValueError, match=r"empty|no images"):
            build().fit(data)


def test_images_of_another_range_are_refused(build, make):
    images = make.images(8).astype("float32")
    for wrong, advice in (
        (images / 255, "0..1"),
        (images - 128, "0..255"),
        (images * 300, "0..255"),
    ):
        with pytest.raises(ValueError, match=advice):
            build().fit(wrong, batch_size=4, verbose=0)


def test_wrong_channel_count_is_refused(build, make):
    with pytest.raises(ValueError, match=r"takes 1 channel"):
        build().fit(np.repeat(make.images(8), 3, axis=-1), batch_size=4, verbose=0)


def test_nan_stops_the_training_naming_term_and_teacher(build, teachers, make):
    """The second teacher's bias is NaN, so its logits and, jointly, the target are."""
    model = build(terms=[ka.SoftTargets(ownership="per_task")])
    dense = teachers[1].model.layers[-1]
    dense.bias.assign(np.full(2, np.nan))
    with pytest.raises(FloatingPointError, match=r"term 'soft_targets', teacher 'shapes'") as error:
        model.fit(make.images(32), batch_size=8, epochs=3, verbose=0)
    assert "'digits'" not in str(error.value)


def test_bad_constructions_are_refused(teachers, make):
    student = make.student(teachers)
    with pytest.raises(ValueError, match="no layer 'nowhere'.*student_map"):
        ka.Amalgamator(student, teachers, student_tap="nowhere")
    with pytest.raises(ValueError, match="student, which has no tap"):
        ka.Amalgamator(student, teachers, terms=[ka.CommonFeatures(units=2)])
    with pytest.raises(ValueError, match="each with a name of its own"):
        ka.Amalgamator(student, teachers, terms=[ka.SoftTargets(), ka.SoftTargets()])
    with pytest.raises(ValueError, match=r"twice: \['digits'\]"):
        ka.build_student(make.student(teachers), [teachers[0], teachers[0]])
    with pytest.raises(ValueError, match="heads"):
        ka.Amalgamator(student, teachers[:1])
    with pytest.raises(TypeError, match="Teachers must be a list of Teacher"):
        ka.Amalgamator(student, [teacher.model for teacher in teachers])


@pytest.mark.matrix
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "tanh", "hard_sigmoid"])
def test_a_student_that_returns_no_logits_is_refused(activation, nested, teachers, make):
    student = make.student(teachers)
    heads = {n: keras.layers.Activation(activation)(x) for n, x in student.output.items()}
    student = keras.Model(student.input, heads)
    if nested:
        image = keras.Input((12, 12, 1))
        student = keras.Model(image, student(image))
    with pytest.raises(ValueError, match="head 'digits' must return logits. Received: "):
        ka.Amalgamator(student, teachers)


def test_a_student_built_for_other_classes_is_refused(make):
    student = make.student([make.teacher("shapes", ["circle", "square"])])
    turned = make.teacher("shapes", ["square", "circle"])
    with pytest.raises(ValueError, match="built for other classes.*The order counts"):
        ka.Amalgamator(student, [turned])

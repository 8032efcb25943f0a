"""LayerwiseCodes against NumPy, and what its two losses train."""

import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam.terms import LayerwiseCodes

STUDENT = {"mid": (8, 8, 5), "top": (4, 4, 7)}
TEACHERS = {
    "first": {"mid": (8, 8, 3), "top": (2, 4, 6)},
    "second": {"mid": (8, 8, 4), "top": (4, 4, 2)},
}


@pytest.fixture
def signals(fake):
    teachers = {
        name: fake.signals(shapes, seed=seed)
        for seed, (name, shapes) in enumerate(TEACHERS.items(), start=1)
    }
    return fake.signals(STUDENT), teachers


def test_codes_at_two_taps_equal_numpy(fake, signals):
    student, teachers = signals
    term = fake.connected(LayerwiseCodes(), STUDENT, TEACHERS)
    assert term.components == ("mid.reconstruction", "mid.code", "top.reconstruction", "top.code")
    losses = term(student, teachers, fake.batch)
    for number, tap in enumerate(("mid", "top")):
        encoder = np.asarray(term.autoencoders[number].encoder.kernel)[0, 0]
        decoder = np.asarray(term.autoencoders[number].decoder.kernel)[0, 0]
        regressor = np.asarray(term.regressors[number].kernel)[0, 0]
        assert encoder.shape[1] == STUDENT[tap][-1]
        features = [student.features[tap], *(one.features[tap] for one in teachers.values())]
        if tap == "top":  # To the smallest height, 2: rows are averaged two by two.
            features = [
                f.reshape(5, 2, f.shape[1] // 2, 4, -1).mean(2) if f.shape[1] == 4 else f
                for f in features
            ]
        own, *theirs = features
        code = np.concatenate(theirs, -1) @ encoder
        error = ((own @ regressor - code) ** 2).mean((1, 2, 3)) / 2
        ends = np.split(code @ decoder, [theirs[0].shape[-1]], -1)
        for name, target, end in zip(TEACHERS, theirs, ends, strict=True):
            expected = ((end - target) ** 2).mean((1, 2, 3))
            np.testing.assert_allclose(losses[name][f"{tap}.reconstruction"], expected, rtol=1e-4)
            np.testing.assert_allclose(losses[name][f"{tap}.code"], error, rtol=1e-4)


def test_code_is_a_target_for_the_student_and_not_the_other_way_round(fake, signals):
    student, teachers = signals
    term = fake.connected(LayerwiseCodes(taps="top"), STUDENT, TEACHERS)
    with tf.GradientTape() as tape:
        losses = term(student, teachers, fake.batch)
        code = tf.reduce_mean(losses["first"]["code"])
    (autoencoder,), (regressor,) = term.autoencoders, term.regressors
    gradients = tape.gradient(code, [*autoencoder.weights, regressor.kernel])
    assert gradients[:2] == [None, None]
    assert np.abs(gradients[2]).max() > 0


@pytest.mark.parametrize("tap", ["mid", "top"])
def test_gradient_at_each_tap_equals_central_differences(fake, signals, tap):
    fake.assert_gradient(fake.connected(LayerwiseCodes(), STUDENT, TEACHERS), *signals, tap)


def test_vectors_are_encoded_too(fake):
    student, teacher = fake.signals({"features": (6,)}), fake.signals({"features": (3,)}, seed=1)
    term = fake.connected(LayerwiseCodes(), {"features": (6,)}, {"only": {"features": (3,)}})
    code = teacher.features["features"] @ np.asarray(term.autoencoders[0].encoder.kernel)
    error = student.features["features"] @ np.asarray(term.regressors[0].kernel) - code
    losses = term(student, {"only": teacher}, fake.batch)
    np.testing.assert_allclose(losses["only"]["code"], (error**2).mean(-1), rtol=1e-4)

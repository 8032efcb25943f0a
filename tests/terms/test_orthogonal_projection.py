"""OrthogonalProjection against NumPy."""

import numpy as np
import pytest

from keras_amalgam.terms import OrthogonalProjection, SoftTargets

STUDENT = {"top": (4, 4, 7)}
TEACHERS = {"wide": {"top": (2, 2, 10)}, "narrow": {"top": (3,)}}


@pytest.fixture
def signals(fake):
    teachers = {
        "wide": fake.signals(TEACHERS["wide"], seed=1, scale=40.0, shift=9.0),
        "narrow": fake.signals(TEACHERS["narrow"], seed=2, scale=0.1),
    }
    return fake.signals(STUDENT), teachers


def reference(student, teacher, kernel):
    vector = student.mean((1, 2)).astype("float64") @ kernel
    teacher = (teacher.mean((1, 2)) if teacher.ndim == 4 else teacher).astype("float64")
    centred = teacher - teacher.mean(-1, keepdims=True)
    target = centred / np.sqrt(teacher.var(-1, keepdims=True) + 1e-5)
    distance = np.abs(vector - target)
    return np.where(distance < 1, distance**2 / 2, distance - 0.5).mean(-1)


def test_losses_equal_numpy_whatever_the_teachers_scales(fake, signals):
    student, teachers = signals
    term = fake.connected(OrthogonalProjection(), STUDENT, TEACHERS)
    losses = term(student, teachers, fake.batch)
    for place, name in enumerate(TEACHERS):
        kernel = np.asarray(term.projections[place].kernel)
        expected = reference(
            student.features["top"], teachers[name].features["top"], kernel.astype("float64")
        )
        np.testing.assert_allclose(losses[name]["projection"], expected, rtol=1e-4)


def test_reference_notices_another_kernel(fake, signals):
    student, teachers = signals
    term = fake.connected(OrthogonalProjection(), STUDENT, TEACHERS)
    loss = term(student, teachers, fake.batch)["wide"]["projection"]
    other = np.asarray(term.projections[0].kernel)[::-1].astype("float64")
    expected = reference(student.features["top"], teachers["wide"].features["top"], other)
    assert np.abs(np.asarray(loss) - expected).max() > 1e-3


def test_projections_stay_orthonormal_while_they_are_trained(fake, make):
    term = OrthogonalProjection(weight=5.0, taps="top")
    fake.amalgamator([SoftTargets(), term]).fit(make.images(32), batch_size=8, epochs=3, verbose=0)
    for projection in term.projections:
        kernel = np.asarray(projection.kernel)
        small = kernel @ kernel.T if kernel.shape[0] < kernel.shape[1] else kernel.T @ kernel
        np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-5)
        assert np.abs(np.asarray(projection.displacement)).max() > 0


def test_gradient_equals_central_differences(fake, signals):
    fake.assert_gradient(fake.connected(OrthogonalProjection(), STUDENT, TEACHERS), *signals, "top")

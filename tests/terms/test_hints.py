"""Hints against NumPy, on two taps at once."""

import numpy as np
import pytest

from keras_amalgam.terms import Hints

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


def test_hints_at_two_taps_equal_numpy(fake, signals):
    student, teachers = signals
    term = fake.connected(Hints(), STUDENT, TEACHERS)
    assert term.reads == ("mid", "top") and term.components == ("mid.hint", "top.hint")
    losses = term(student, teachers, fake.batch)
    kernels = [np.asarray(one.kernel)[0, 0] for one in term.regressors]
    for place, name in enumerate(TEACHERS):
        mid = student.features["mid"] @ kernels[place] - teachers[name].features["mid"]
        np.testing.assert_allclose(losses[name]["mid.hint"], (mid**2).mean((1, 2, 3)), rtol=1e-5)
    # The smallest height at the top is 2, the smallest width 4: rows are averaged two by two.
    pooled = student.features["top"].reshape(5, 2, 2, 4, 7).mean(2)
    target = teachers["second"].features["top"].reshape(5, 2, 2, 4, 2).mean(2)
    top = pooled @ kernels[3] - target
    np.testing.assert_allclose(losses["second"]["top.hint"], (top**2).mean((1, 2, 3)), rtol=1e-5)


def test_one_tap_alone_is_read_when_named(fake, signals):
    student, teachers = signals
    term = fake.connected(Hints(taps="top"), STUDENT, TEACHERS)
    assert term.components == ("hint",) and len(term.regressors) == 2
    assert set(term(student, teachers, fake.batch)["first"]) == {"hint"}


def test_vectors_are_regressed_too(fake):
    student, teacher = fake.signals({"features": (6,)}), fake.signals({"features": (3,)}, seed=1)
    term = fake.connected(Hints(), {"features": (6,)}, {"only": {"features": (3,)}})
    error = student.features["features"] @ np.asarray(term.regressors[0].kernel)
    expected = ((error - teacher.features["features"]) ** 2).mean(-1)
    losses = term(student, {"only": teacher}, fake.batch)
    np.testing.assert_allclose(losses["only"]["hint"], expected, rtol=1e-5)


@pytest.mark.parametrize("tap", ["mid", "top"])
def test_gradient_at_each_tap_equals_central_differences(fake, signals, tap):
    fake.assert_gradient(fake.connected(Hints(), STUDENT, TEACHERS), *signals, tap)


@pytest.mark.parametrize(
    ("taps", "student", "match"),
    [
        (
            ("deep",),
            STUDENT,
            r"reads features at the taps \['deep'\].*with taps \['mid', 'top'\]",
        ),
        (None, {"other": (4, 4, 2)}, "that all models have. Received: The student, with taps"),
        (None, {"mid": (5,), "top": (4, 4, 7)}, "Teacher 'first' and the student disagree"),
        (None, {}, "The student, which has no tap"),
    ],
    ids=["unknown", "none shared", "vector and map", "no tap"],
)
def test_taps_that_do_not_fit_are_refused_naming_them(fake, taps, student, match):
    with pytest.raises(ValueError, match=match):
        fake.connected(Hints(taps=taps), student, TEACHERS)


@pytest.mark.parametrize("taps", [(), ("top", "top")], ids=["none", "twice"])
def test_taps_named_badly_are_refused(taps):
    with pytest.raises(ValueError, match="one or more different names"):
        Hints(taps=taps)

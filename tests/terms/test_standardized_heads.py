"""StandardizedHeads against NumPy and SciPy."""

import numpy as np
import pytest
from scipy.special import huber

from keras_amalgam.terms import StandardizedHeads

STUDENT = {"top": (4, 4, 7)}
TEACHERS = {"large": {"top": (2, 2, 6)}, "small": {"top": (4, 4, 3)}}


@pytest.fixture
def signals(fake):
    teachers = {
        "large": fake.signals(TEACHERS["large"], seed=1, scale=300.0, shift=1000.0),
        "small": fake.signals(TEACHERS["small"], seed=2, scale=0.01),
    }
    return fake.signals(STUDENT), teachers


@pytest.fixture
def term(fake, signals):
    term = fake.connected(StandardizedHeads(dropping=0.5), STUDENT, TEACHERS)
    term.adapt_once([fake.observation(*signals)])
    return term


def pooled(features):
    """All maps to the smallest size, 2 by 2."""
    if features.shape[1] == 2:
        return features
    return features.reshape(len(features), 2, 2, 2, 2, -1).mean((2, 4))


def reference(term, place, student, teacher):
    target = pooled(teacher.astype("float64"))
    target = (target - target.mean((0, 1, 2))) / target.std((0, 1, 2), ddof=1)
    predicted = np.asarray(term.heads[place](pooled(student)), "float64")
    length = np.linalg.norm(target, axis=-1) * np.linalg.norm(predicted, axis=-1)
    cosine = 1 - (target * predicted).sum(-1) / length
    return cosine.mean((1, 2)) / 2, huber(1.0, predicted - target).mean((1, 2, 3)) / 2


def test_losses_equal_the_reference_whatever_the_teachers_scales(fake, term, signals):
    student, teachers = signals
    losses = term(student, teachers, fake.batch)
    for place, name in enumerate(TEACHERS):
        cosine, smooth = reference(
            term, place, student.features["top"], teachers[name].features["top"]
        )
        np.testing.assert_allclose(losses[name]["cosine"], cosine, rtol=1e-4)
        np.testing.assert_allclose(losses[name]["smooth_l1"], smooth, rtol=1e-4)


def test_statistics_are_those_of_all_batches_together(fake, signals):
    student, teachers = signals
    halves = [
        fake.observation(
            student,
            {
                name: type(one)({}, {"top": one.features["top"][part]})
                for name, one in teachers.items()
            },
        )
        for part in (slice(0, 2), slice(2, 5))
    ]
    term = fake.connected(StandardizedHeads(), STUDENT, TEACHERS)
    term.adapt_once(halves)
    rows = teachers["large"].features["top"].astype("float64")
    np.testing.assert_allclose(term.means[0], rows.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(term.deviations[0], rows.std((0, 1, 2), ddof=1), rtol=1e-5)


def test_dead_channels_are_not_blown_up(fake, signals):
    student, teachers = signals
    dead = teachers["large"].features["top"].copy()
    dead[..., 0] = 5.0
    teachers = {**teachers, "large": type(student)({}, {"top": dead})}
    term = fake.connected(StandardizedHeads(), STUDENT, TEACHERS)
    term.adapt_once([fake.observation(student, teachers)])
    deviations = np.asarray(term.deviations[0])
    assert deviations[0] == pytest.approx(1e-3 * deviations.max())
    assert np.asarray(term(student, teachers, fake.batch)["large"]["smooth_l1"]).max() < 10


def test_only_in_training_teachers_are_dropped_and_never_the_furthest(fake, term, signals):
    whole = term(*signals, fake.batch)
    sums = {name: np.asarray(sum(parts.values())) for name, parts in whole.items()}
    furthest = np.argmax(np.stack([sums[name] for name in TEACHERS]), axis=0)
    seen = np.zeros((2, 5))
    for _ in range(40):
        losses = term(*signals, fake.batch, training=True)
        for place, name in enumerate(TEACHERS):
            total = np.asarray(sum(losses[name].values()))
            kept = total > 0
            np.testing.assert_allclose(total[kept], sums[name][kept], rtol=1e-6)
            assert kept[furthest == place].all()
            seen[place] += kept
    others = np.concatenate([seen[place][furthest != place] for place in range(2)])
    assert 0.35 < others.mean() / 40 < 0.65  # 200 draws of a half


def test_gradient_equals_central_differences(fake, term, signals):
    fake.assert_gradient(term, *signals, "top")


@pytest.mark.parametrize("arguments", [{"dropping": 1.5}, {"units": 0}, {"weight": -1.0}], ids=str)
def test_settings_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        StandardizedHeads(**arguments)

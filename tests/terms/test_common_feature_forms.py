"""The further forms of CommonFeatures: variants, pooled, bandwidths, subspaces, several taps."""

import keras
import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from keras_amalgam.terms import CommonFeatures

STUDENT = {"mid": (4, 4, 5), "top": (2, 2, 7)}
TEACHERS = {
    "first": {"mid": (4, 4, 6), "top": (2, 2, 8)},
    "second": {"mid": (4, 4, 3), "top": (2, 2, 9)},
}


@pytest.fixture
def signals(fake):
    teachers = {
        name: fake.signals(shapes, images=40, seed=seed, scale=10.0**seed, shift=seed)
        for seed, (name, shapes) in enumerate(TEACHERS.items(), start=1)
    }
    return fake.signals(STUDENT, images=40), teachers


def adapted(fake, term, signals):
    fake.connected(term, STUDENT, TEACHERS)
    term.adapt_once([fake.observation(*signals)])
    return term


def unit(features):
    rows = np.asarray(features, "float64").reshape(len(features), -1)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def mmd(x, y, widths, unbiased=False):
    def mean(a, b, within):
        kernel = sum(np.exp(-cdist(a, b, "sqeuclidean") / (2 * w**2)) for w in widths)
        if within and unbiased:
            return kernel[~np.eye(len(a), dtype=bool)].mean()
        return kernel.mean()

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_median_bandwidths_and_estimator_equal_scipy(fake, signals, estimator):
    term = CommonFeatures(units=4, bandwidths="median", estimator=estimator, taps="top")
    adapted(fake, term, signals)
    student, teachers = signals
    features = [one.features["top"] for one in teachers.values()]
    common = [unit(one) for one in term.embed(student.features["top"], features)]
    losses = term(student, teachers, fake.batch)
    for place, name in enumerate(TEACHERS, start=1):
        both = np.concatenate([common[0], common[place]])
        median = np.sqrt(np.median(pdist(both, "sqeuclidean")) / 2)
        assert float(term._medians[0, place - 1]) == pytest.approx(median, rel=1e-4)
        widths = median * np.array([0.25, 0.5, 1, 2, 4])
        expected = mmd(common[0], common[place], widths, estimator == "unbiased")
        assert float(losses[name]["mmd"]) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_pooled_form_compares_the_means_over_the_places(fake, signals):
    term = fake.connected(CommonFeatures(units=4, pooled=True, taps="top"), STUDENT, TEACHERS)
    student, teachers = signals
    losses = term(student, teachers, fake.batch)
    vectors = {name: one.features["top"].mean((1, 2)) for name, one in teachers.items()}
    common = [
        term.extractor(adapter(vector))
        for adapter, vector in zip(
            (term.student_adapter, *term.teacher_adapters),
            (student.features["top"].mean((1, 2)), *vectors.values()),
            strict=True,
        )
    ]
    for place, (name, vector) in enumerate(vectors.items()):
        expected = mmd(unit(common[0]), unit(common[place + 1]), term.bandwidths)
        assert float(losses[name]["mmd"]) == pytest.approx(expected, rel=1e-3)
        decoded = np.asarray(term.decoders[place](common[place + 1]))
        np.testing.assert_allclose(
            losses[name]["reconstruction"], ((decoded - vector) ** 2).mean(-1), rtol=1e-4
        )


def test_maps_and_vectors_meet_in_the_pooled_form_alone(fake):
    student, teachers = {"top": (2, 2, 7)}, {"first": {"top": (8,)}}
    fake.connected(CommonFeatures(units=4, pooled=True), student, teachers)
    with pytest.raises(ValueError, match="Both must be maps or both vectors"):
        fake.connected(CommonFeatures(units=4), student, teachers)


def test_subspace_has_the_teachers_principal_directions_evenly_scaled(fake, signals):
    term = adapted(fake, CommonFeatures(units=4, subspace=4, taps="top"), signals)
    student, teachers = signals
    features = [one.features["top"] for one in teachers.values()]
    losses = term(student, teachers, fake.batch)
    for place, (name, target) in enumerate(zip(TEACHERS, term.targets(features), strict=True)):
        rows = features[place].reshape(-1, features[place].shape[-1]).astype("float64")
        coordinates = np.asarray(target, "float64").reshape(len(rows), -1)
        assert coordinates.shape[1] == 4
        np.testing.assert_allclose(coordinates.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(coordinates.var(0, ddof=1), 1, rtol=1e-3)
        # The best plane of four dimensions: what is lost is the variance of the other directions.
        variances = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
        back = np.asarray(term.subspaces[place].inverse(target)).reshape(rows.shape)
        lost = ((back - rows) ** 2).sum(-1).mean() * len(rows) / (len(rows) - 1)
        assert lost == pytest.approx(variances[4:].sum(), rel=1e-3)
        common = term.embed(student.features["top"], features)[place + 1]
        error = (np.asarray(term.decoders[place](common)) - np.asarray(target)) ** 2
        np.testing.assert_allclose(losses[name]["reconstruction"], error.mean((1, 2, 3)), rtol=1e-4)


def test_teacher_of_a_hundredfold_scale_weighs_the_same_in_a_subspace(fake, signals):
    student, teachers = signals
    plain = fake.connected(CommonFeatures(units=4, taps="top"), STUDENT, TEACHERS)
    within = adapted(fake, CommonFeatures(units=4, subspace=3, taps="top"), signals)
    for term, low, high in ((plain, 30, 300), (within, 0.3, 3)):
        losses = term(student, teachers, fake.batch)
        means = [float(np.mean(losses[name]["reconstruction"])) for name in TEACHERS]
        assert low < means[1] / means[0] < high


def test_subspace_of_more_directions_than_channels_takes_all(fake, signals):
    term = adapted(fake, CommonFeatures(units=4, subspace=64, taps="top"), signals)
    assert [one.dimensions for one in term.subspaces] == [8, 9]


def test_variant_b_normalises_every_model_by_its_own_batch(fake, signals):
    term = fake.connected(CommonFeatures(units=4, variant="B", taps="top"), STUDENT, TEACHERS)
    student, teachers = signals
    losses = term(student, teachers, fake.batch, training=True)
    again = fake.connected(CommonFeatures(units=4, variant="B", taps="top"), STUDENT, TEACHERS)
    again.set_weights(term.get_weights())
    features = (student, *teachers.values())
    adapters = (again.student_adapters[0], *again.teacher_adapters)
    common = [
        again.extractor(adapter(one.features["top"], training=True), training=True)
        for adapter, one in zip(adapters, features, strict=True)
    ]
    for place, name in enumerate(TEACHERS, start=1):
        expected = mmd(unit(common[0]), unit(common[place]), term.bandwidths)
        assert float(losses[name]["mmd"]) == pytest.approx(expected, rel=1e-3)
    inferred = term(student, teachers, fake.batch)
    assert float(inferred["first"]["mmd"]) != pytest.approx(float(losses["first"]["mmd"]), rel=1e-3)


def test_two_taps_are_two_terms_with_one_extractor(fake, signals):
    both = fake.connected(CommonFeatures(units=4), STUDENT, TEACHERS)
    assert both.components == ("mid.mmd", "mid.reconstruction", "top.mmd", "top.reconstruction")
    losses = both(*signals, fake.batch)
    for number, tap in enumerate(("mid", "top")):
        alone = fake.connected(CommonFeatures(units=4, taps=tap), STUDENT, TEACHERS)
        alone.extractor.set_weights(both.extractor.get_weights())
        alone.student_adapter.set_weights(both.student_adapters[number].get_weights())
        for place in range(2):
            for mine, its in (
                (alone.teacher_adapters, both.teacher_adapters),
                (alone.decoders, both.decoders),
            ):
                mine[place].set_weights(its[2 * number + place].get_weights())
        for name, parts in alone(*signals, fake.batch).items():
            for part, value in parts.items():
                np.testing.assert_allclose(losses[name][f"{tap}.{part}"], value, rtol=1e-5)


def test_maps_at_one_tap_and_vectors_at_another_are_refused(fake):
    student, teachers = {"a": (2, 2, 3), "b": (4,)}, {"first": {"a": (2, 2, 3), "b": (5,)}}
    with pytest.raises(ValueError, match="all maps or all vectors.*`pooled=True`"):
        fake.connected(CommonFeatures(units=4), student, teachers)


@pytest.mark.parametrize("tap", ["mid", "top"])
@pytest.mark.parametrize(
    "settings",
    [
        {"bandwidths": "median"},
        {"subspace": 3, "bandwidths": (0.5, 1.0)},
        {"pooled": True, "bandwidths": (0.5,)},
    ],
    ids=["median", "subspace", "pooled"],
)
def test_gradient_equals_central_differences(fake, signals, settings, tap):
    # Reconstructions do not reach the student, and are so large that they hide small differences.
    term = CommonFeatures(units=4, reconstruction_weight=0.0, **settings)
    if term.adapts:
        adapted(fake, term, signals)
    else:
        fake.connected(term, STUDENT, TEACHERS)
    fake.assert_gradient(term, *signals, tap)


@pytest.mark.parametrize("settings", [{"variant": "C"}, {"subspace": 0}], ids=str)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="Received"):
        CommonFeatures(**settings)


def test_settings_survive_serialization():
    term = CommonFeatures(
        units=7, bandwidths="median", variant="B", pooled=True, subspace=9, taps=("mid", "top")
    )
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(term))
    assert again.get_config() == term.get_config()
    assert (again.bandwidths, again.variant, again.taps) == ("median", "B", ("mid", "top"))

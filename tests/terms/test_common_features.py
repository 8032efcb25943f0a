"""CommonFeatures against the published formulas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam.models.batch import Batch
from keras_amalgam.models.signals import Signals
from keras_amalgam.terms import CommonFeatures, ModelSpec, TapSpec
from keras_amalgam.terms.features import pooled_to

NAMES = ("first", "second")
BATCH = Batch(None)


def spec(name, features):
    return ModelSpec(name, {}, {"features": TapSpec("tap", features)} if features else {})


def signals(features):
    return Signals({}, {"features": features})


def connected(student, teachers, **arguments):
    term = CommonFeatures(**arguments)
    term.connect(
        spec("The student", student), {n: spec(f"Teacher {n!r}", s) for n, s in teachers.items()}
    )
    return term


@pytest.fixture
def golden_term(golden):
    term = connected((5, 5, 24), {"first": (5, 5, 32), "second": (5, 5, 20)}, units=16)
    term.student_adapter.linear.kernel.assign(golden["align_s.0.weight"])
    for t in range(2):
        term.teacher_adapters[t].linear.kernel.assign(golden[f"align_t.{t}.0.weight"])
        term.decoders[t].hidden.kernel.assign(golden[f"dec_t.{t}.0.weight"])
        term.decoders[t].linear.kernel.assign(golden[f"dec_t.{t}.2.weight"])
    for b, block in enumerate(term.extractor.blocks):
        block.first.kernel.assign(golden[f"extractor.{b}.conv1.weight"])
        block.second.kernel.assign(golden[f"extractor.{b}.conv2.weight"])
    term.extractor.blocks[0].skip.kernel.assign(golden["extractor.0.downsample.0.weight"])
    return term


def signals_of(golden):
    teachers = {name: signals(golden[f"teacher_features_{t}"]) for t, name in enumerate(NAMES)}
    return signals(golden["student_features"]), teachers


def test_common_features_and_reconstructions_are_golden(golden, golden_term, assert_golden):
    student, teachers = signals_of(golden)
    features = [teachers[name].features["features"] for name in NAMES]
    common = golden_term.embed(student.features["features"], features)
    assert_golden(common[0], golden["common_student"])
    for t in range(2):
        assert_golden(common[t + 1], golden[f"common_teacher_{t}"])
        assert_golden(golden_term.decoders[t](common[t + 1]), golden[f"reconstruction_{t}"])


def test_losses_and_gradient_are_golden(golden, golden_term, assert_golden):
    student, teachers = signals_of(golden)
    features = tf.constant(student.features["features"])
    with tf.GradientTape() as tape:
        tape.watch(features)
        losses = golden_term(signals(features), teachers, BATCH)
        mmd = [losses[name]["mmd"] for name in NAMES]
        error = [tf.reduce_mean(losses[name]["reconstruction"]) for name in NAMES]
        total = golden_term.weight * (sum(mmd) + sum(error))
    assert_golden(np.stack(mmd), golden["mmd_per_teacher"])
    assert_golden(np.stack(error), golden["reconstruction_mse_per_teacher"])
    assert_golden(total, golden["common_feature_loss"])
    assert_golden(tape.gradient(total, features), golden["student_features_grad"])


def test_golden_check_fails_when_one_weight_is_corrupted(golden, golden_term, assert_golden):
    kernel = golden_term.extractor.blocks[1].first.kernel
    corrupted = kernel.numpy().copy()
    corrupted[1, 1, 0, 0] += 0.05
    kernel.assign(corrupted)
    student, teachers = signals_of(golden)
    losses = golden_term(student, teachers, BATCH)
    with pytest.raises(AssertionError, match="largest error"):
        assert_golden(losses["first"]["mmd"], golden["mmd_per_teacher"][0])


def test_unequal_maps_are_pooled_to_the_smallest():
    term = connected((8, 8, 6), {"first": (4, 6, 5), "second": (8, 4, 3)}, units=4)
    rng = np.random.default_rng(0)
    student = rng.random((3, 8, 8, 6), "float32")
    teachers = [rng.random((3, 4, 6, 5), "float32"), rng.random((3, 8, 4, 3), "float32")]
    common = term.embed(student, teachers)
    assert [tuple(c.shape) for c in common] == [(3, 4, 4, 4)] * 3
    pooled = student.reshape(3, 4, 2, 4, 2, 6).mean((2, 4))  # 8 -> 4 is a mean of 2 by 2.
    np.testing.assert_allclose(common[0], term.embed(pooled, teachers)[0], atol=1e-6)


def test_maps_whose_sizes_do_not_divide_are_pooled_over_overlapping_windows():
    """Window i is floor(i·7/4) to ceil((i+1)·7/4), as in PyTorch's adaptive pooling."""
    term = connected((7, 7, 2), {"first": (4, 4, 2)}, units=2)
    rng = np.random.default_rng(0)
    student, teacher = rng.random((3, 7, 7, 2), "float32"), rng.random((3, 4, 4, 2), "float32")
    windows = [slice(i * 7 // 4, -(-(i + 1) * 7 // 4)) for i in range(4)]
    means = [[student[:, rows, columns].mean((1, 2)) for columns in windows] for rows in windows]
    pooled = np.stack([np.stack(row, axis=1) for row in means], axis=1)
    common = term.embed(student, [teacher])[0]
    np.testing.assert_allclose(common, term.embed(pooled, [teacher])[0], atol=1e-6)


def test_pooling_of_uneven_maps_averages_overlapping_windows():
    """7 -> 3 has the windows 0:3, 2:5, 4:7, and 7 -> 1 is the mean."""
    features = np.random.default_rng(0).random((2, 7, 7, 2), "float32")
    expected = np.stack([features[:, a : a + 3].mean((1, 2)) for a in (0, 2, 4)], 1)[:, :, None]
    np.testing.assert_allclose(pooled_to(features, (3, 1)), expected, atol=1e-6)


def test_vectors_share_a_space_too():
    term = connected((6,), {"first": (5,)}, units=4)
    rng = np.random.default_rng(0)
    losses = term(
        signals(rng.random((7, 6), "float32")),
        {"first": signals(rng.random((7, 5), "float32"))},
        BATCH,
    )
    assert losses["first"]["reconstruction"].shape == (7,)
    assert float(losses["first"]["mmd"]) > 0


def test_term_survives_serialization_with_its_settings():
    term = CommonFeatures(units=7, weight=3.0, bandwidths=(0.5,), estimator="unbiased", name="cf")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(term))
    assert again.get_config() == term.get_config()
    assert (again.units, again.bandwidths, again.name) == (7, (0.5,), "cf")


def test_no_reconstruction_means_no_decoders():
    term = connected((4, 4, 3), {"first": (4, 4, 2)}, units=2, reconstruction_weight=0.0)
    assert term.components == ("mmd",)
    assert not any("decoder" in weight.path for weight in term.weights)


def test_map_against_vector_is_refused_naming_teacher_taps_and_shapes():
    with pytest.raises(ValueError, match=r"Teacher 'first' and the student disagree.*\(512,\)"):
        connected((7, 7, 3), {"first": (512,)})


def test_missing_tap_is_refused_naming_who_lacks_it():
    with pytest.raises(ValueError, match="Teacher 'first', which has no tap"):
        connected((7, 7, 3), {"first": None})


@pytest.mark.parametrize(
    "arguments",
    [{"units": 0}, {"weight": -1}, {"bandwidths": (0.0,)}, {"estimator": "median"}],
)
def test_settings_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        CommonFeatures(**arguments)

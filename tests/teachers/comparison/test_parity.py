"""The parity check, and the twins that it must not survive."""

from dataclasses import replace

import keras
import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from keras_amalgam import teachers
from keras_amalgam.teachers.comparison.pairing import pair
from keras_amalgam.teachers.comparison.parity import agreement, compare, is_past
from keras_amalgam.teachers.comparison.patterns import patterns


@pytest.fixture
def converted(network, tmp_path):
    """A converted network and its file."""
    path = tmp_path / "network.onnx"
    onnx.save(network, path)
    return teachers.from_onnx(path), path


def test_report_names_outputs_and_every_tensor_inside(converted):
    report = teachers.check_parity(*converted)
    assert list(report["outputs"]) == ["y"]
    assert list(report["taps"]) == ["c1", "b1", "r1", "c2", "a1", "r2", "p1", "f1"]
    for errors in (*report["outputs"].values(), *report["taps"].values()):
        assert errors["max_abs_error"] <= 1e-5
        assert 0 < errors["mean_abs_error"] <= errors["max_abs_error"] or errors["cosine"] > 0.999
        assert errors["cosine"] == pytest.approx(1, abs=1e-6)
        assert errors["argmax_agreement"] == 1
        assert errors["range"] > 0.1


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("tap", "tensor"), [("body", "r2"), ("/body/Add", "a1"), ("c2", "c2"), ("stem_relu_Relu", "r1")]
)
def test_tap_may_be_named_as_in_the_source(converted, tap, tensor):
    assert list(teachers.check_parity(*converted, taps=[tap])["taps"]) == [tensor]


def test_unknown_tap_is_refused(converted):
    with pytest.raises(ValueError, match=r"goes by \['nowhere'\]"):
        teachers.check_parity(*converted, taps=["nowhere"])


def _corrupt_one_weight(model):
    layer = model.get_layer("body_conv_Conv")
    kernel, bias = layer.get_weights()
    kernel[0, 1, 2, 3] += 0.05
    layer.set_weights([kernel, bias])


def _swap_two_channels(model):
    layer = model.get_layer("stem_conv_Conv")
    (kernel,) = layer.get_weights()
    layer.set_weights([kernel[..., [1, 0, 2, 3]]])


def _swap_red_and_blue(model):
    layer = model.get_layer("stem_conv_Conv")
    (kernel,) = layer.get_weights()
    layer.set_weights([kernel[:, :, ::-1]])


def _move_the_mean(model):
    layer = model.get_layer("bn")
    scale, offset, mean, variance = layer.get_weights()
    layer.set_weights([scale, offset, mean + [0, 0, 0.01, 0], variance])


def _turn_the_dense_kernel_to_channels_first(model):
    layer = model.get_layer("fc_Gemm")
    kernel, bias = layer.get_weights()
    kernel = kernel.reshape(4, 4, 4, 5).transpose(2, 0, 1, 3).reshape(64, 5)
    layer.set_weights([kernel, bias])


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("taps", ["all", ()])
@pytest.mark.parametrize(
    ("corrupt", "node"),
    [
        (_corrupt_one_weight, "/body/conv/Conv"),
        (_swap_two_channels, "/stem/conv/Conv"),
        (_swap_red_and_blue, "/stem/conv/Conv"),
        (_move_the_mean, "/bn"),
        (_turn_the_dense_kernel_to_channels_first, "the output|/fc/Gemm"),
    ],
)
def test_corrupted_network_is_found_out_at_its_first_wrong_node(converted, corrupt, node, taps):
    model, path = converted
    corrupt(model)
    with pytest.raises(ValueError, match=rf"(?s)differs.*appears first at .*({node}).*Received"):
        teachers.check_parity(model, path, taps=taps)


def test_error_within_a_wider_tolerance_is_reported_and_passes(converted):
    model, path = converted
    _corrupt_one_weight(model)
    report = teachers.check_parity(model, path, tolerance=0.5)
    assert report["taps"]["c2"]["max_abs_error"] > 0.01
    assert report["taps"]["c1"]["max_abs_error"] < 1e-5


def test_wrong_conversion_never_comes_out_of_from_onnx(network, tmp_path, monkeypatch):
    """A converter with a wrong epsilon is caught before the model is returned."""
    from keras_amalgam.teachers.conversion.operators.call import Call

    right = Call.attribute

    def wrong(self, name, default=None):
        value = right(self, name, default)
        return value + 0.01 if name == "epsilon" else value

    monkeypatch.setattr(Call, "attribute", wrong)
    path = tmp_path / "network.onnx"
    onnx.save(network, path)
    with pytest.raises(ValueError, match=r"appears first at node '/bn' \(BatchNormalization\)"):
        teachers.from_onnx(path)
    assert teachers.from_onnx(path, verify=False).provenance.parity == {}


def test_file_of_another_network_is_refused(converted, build, tmp_path):
    model, _ = converted
    onnx.save(build([make_node("Relu", ["x"], ["y"])], (3, 9, 8)), tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="was not made from this source"):
        teachers.check_parity(model, tmp_path / "other.onnx")


def test_keras_models_of_other_layers_are_refused(converted):
    model, _ = converted
    other = keras.Sequential([keras.Input((9, 8, 3)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="was not made from this source"):
        teachers.check_parity(model, other)


def test_own_images_are_compared(converted):
    model, path = converted
    zeros = np.zeros((3, 9, 8, 3), np.float32)
    report = teachers.check_parity(model, path, images=zeros)
    assert report["taps"]["c1"]["range"] == 0
    assert report["outputs"]["y"]["range"] > 0


def test_file_for_a_fixed_batch_is_compared_with_every_batch_size(build, random, tmp_path):
    source = build([make_node("Conv", ["x", "w"], ["y"])], (3, 5, 5), {"w": random(4, 3, 3, 3)})
    for fixed in (1, 2):
        source.graph.input[0].type.tensor_type.shape.dim[0].dim_value = fixed
        source.graph.output[0].type.tensor_type.shape.dim[0].dim_value = fixed
        path = tmp_path / f"fixed_{fixed}.onnx"
        onnx.save(source, path)
        model = teachers.from_onnx(path)
        assert model.input_shape[0] is None
        report = teachers.check_parity(model, path, batch_sizes=(1, 3, 5))
        assert report["outputs"]["y"]["max_abs_error"] < 1e-5


def _twice_halved(build, *after, ceil_mode=1):
    """A map halved and doubled, which for odd sizes is a pixel larger than the image."""
    window = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": ceil_mode}
    nodes = [
        make_node("MaxPool", ["x"], ["p"], **window),
        make_node(
            "Resize", ["p", "", "scales"], ["u"], mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        *after,
    ]  # fmt: skip
    return build(nodes, (3, "h", "w"), {"scales": np.array([1, 1, 2, 2], np.float32)})


def test_network_that_is_wrong_for_odd_sizes_is_found(build, tmp_path):
    onnx.save(_twice_halved(build), tmp_path / "halves.onnx")
    model = teachers.from_onnx(tmp_path / "halves.onnx")
    teachers.check_parity(model, tmp_path / "halves.onnx")
    onnx.save(_twice_halved(build, ceil_mode=0), tmp_path / "other.onnx")
    with pytest.raises(ValueError, match=r"Received: \(3, 66, 98, 3\). Expected \(3, 64, 96, 3\)"):
        compare(
            replace(
                pair(model, tmp_path / "halves.onnx"),
                runtime=pair(model, tmp_path / "other.onnx").runtime,
            ),
            model,
            (),
            1e-4,
        )


def test_network_that_takes_no_odd_sizes_is_compared_at_even_ones(build, tmp_path):
    onnx.save(
        _twice_halved(build, make_node("Concat", ["x", "u"], ["y"], axis=1)),
        tmp_path / "skip.onnx",
    )
    assert teachers.from_onnx(tmp_path / "skip.onnx").output_shape == (None, None, None, 6)


def test_agreement_measures_what_it_says():
    expected = np.array([[1.0, 2.0, 4.0], [3.0, 0.0, 1.0]])
    received = np.array([[1.0, 2.5, 4.0], [2.0, 2.25, 1.0]])
    errors = agreement(expected, received)
    assert errors["max_abs_error"] == 2.25
    assert errors["mean_abs_error"] == pytest.approx((0.5 + 1 + 2.25) / 6)
    assert errors["range"] == 4
    assert errors["argmax_agreement"] == 0.5
    cosine = (expected * received).sum() / np.sqrt((expected**2).sum() * (received**2).sum())
    assert errors["cosine"] == pytest.approx(cosine)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_agreement_of_what_is_not_finite_on_one_side_is_none(bad):
    values = np.ones((2, 3))
    broken = values.copy()
    broken[0, 1] = bad
    for arrays in ((values, broken), (broken, values), (broken, np.nan_to_num(broken))):
        errors = agreement(*arrays)
        assert errors["max_abs_error"] == np.inf
        assert is_past(errors, tolerance=1e-4) and is_past(errors, tolerance=1e9)


def test_agreement_leaves_out_what_is_masked_on_both_sides():
    expected = np.array([[1.0, -np.inf, np.nan]])
    assert agreement(expected, expected + 0.5)["max_abs_error"] == 0.5
    assert agreement(np.full((1, 2), np.inf), np.full((1, 2), np.inf))["max_abs_error"] == 0


def test_source_that_gives_no_numbers_is_refused(tmp_path, build, random):
    nodes = [make_node("Conv", ["x", "w"], ["c"]), make_node("Log", ["c"], ["y"])]
    onnx.save(build(nodes, (3, 5, 5), {"w": random(4, 3, 3, 3)}), tmp_path / "log.onnx")
    with pytest.raises(ValueError, match="source itself gives numbers that are not finite at.*'y'"):
        teachers.from_onnx(tmp_path / "log.onnx")


def test_patterns_are_seeded_and_in_range(converted):
    model, _ = converted
    images = patterns(model, 3, seed=1)
    assert images.shape == (3, 9, 8, 3)
    assert images.dtype == np.float32
    assert -2 <= images.min() < -1 < 1 < images.max() <= 2
    np.testing.assert_array_equal(images, patterns(model, 3, seed=1))
    assert (images != patterns(model, 3, seed=2)).any()


@pytest.mark.parametrize("sign", [1, -1])
def test_small_outputs_must_point_in_the_same_direction(sign):
    """Twins: the same, rounded; and negated, with an error far below the tolerance of 1e-4."""
    expected = np.linspace(-3e-5, 3e-5, 12).reshape(3, 4)
    errors = agreement(expected, sign * expected + 1e-8)
    assert is_past(errors, 1e-4, is_signal=True) == (sign < 0)
    assert not is_past(errors, 1e-4)


def test_shuffled_probabilities_of_many_classes_are_found():
    """Twins: all far below the tolerance and in one direction, as they are nearly alike."""
    generator = np.random.default_rng(0)
    logits = 0.02 * generator.standard_normal((3, 1000))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rounded, shuffled = expected + 1e-9, expected[:, generator.permutation(1000)]
    assert agreement(expected, shuffled)["cosine"] > 0.999
    assert not is_past(agreement(expected, rounded), 1e-4, is_signal=True)
    assert is_past(agreement(expected, shuffled), 1e-4, is_signal=True)


def test_outputs_that_are_all_alike_agree_up_to_rounding():
    expected = np.full((3, 4), 100.0)
    assert not is_past(agreement(expected, expected + [5e-6, 0, 0, 0]), 1e-4, is_signal=True)
    assert is_past(agreement(expected, expected + 1.0), 1e-4, is_signal=True)

"""What a source differs from itself by is not the converter's, and no more than that."""

import keras
import numpy as np
import onnx
import pytest
from onnx.helper import make_node

import keras_amalgam as ka
from keras_amalgam import teachers
from keras_amalgam.teachers.comparison.noise import LARGEST, MEAN, MOST, is_noise
from keras_amalgam.teachers.comparison.pairing import pair
from keras_amalgam.teachers.comparison.patterns import patterns
from keras_amalgam.teachers.runtimes.source_runtimes import KerasRuntime, in_another_order


def steep(build, quantized=False):
    """Large activations before a sigmoid, so that their rounding is seen behind it."""
    generator = np.random.default_rng(0)
    shapes = {"w1": (64, 3, 3, 3), "w2": (64, 64, 3, 3), "w3": (64, 64, 3, 3)}
    scales = {"w1": 8, "w2": 8, "w3": 0.02}
    weights = {
        name: (generator.normal(size=shape) * scales[name]).astype(np.float32)
        for name, shape in shapes.items()
    }
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"]),
        make_node("Relu", ["a"], ["b"]),
        make_node("Conv", ["b", "w2"], ["c"]),
        make_node("Relu", ["c"], ["d"]),
        make_node("Conv", ["d", "w3"], ["e"], name="last"),
        make_node("Sigmoid", ["e"], ["y"]),
    ]
    if quantized:
        weights |= {"scale": np.float32(1 / 255), "zero": np.uint8(0)}
        nodes[-1].output[0] = "s"
        nodes.append(make_node("QuantizeLinear", ["s", "scale", "zero"], ["q"]))
        nodes.append(make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]))
    return build(nodes, (3, 24, 24), weights)


@pytest.fixture
def noisy(build, tmp_path):
    """The steep network's file."""
    path = tmp_path / "steep.onnx"
    onnx.save(steep(build), path)
    return path


def test_source_rounds_differently_in_another_order(noisy):
    model = teachers.from_onnx(noisy, verify=False)
    runtime = pair(model, noisy).runtime
    images = patterns(model, 3, 0)
    other_order = in_another_order(runtime)
    assert other_order is not None
    one, other = (r.run(images, ["y"])["y"] for r in (runtime, other_order))
    assert 1e-4 < np.abs(one - other).max() < MOST


def test_noise_of_the_source_is_allowed_and_both_numbers_are_reported(noisy):
    model = teachers.from_onnx(noisy)
    errors = teachers.check_parity(model, noisy, taps=[])["outputs"]["y"]
    assert 1e-4 < errors["max_abs_error"] <= min(2 * errors[LARGEST], MOST)
    assert errors["mean_abs_error"] <= 2 * errors[MEAN]


@pytest.mark.parametrize("size", [1e-3, 1e-2])
def test_corrupted_weights_are_found_among_the_noise(noisy, size):
    model = teachers.from_onnx(noisy)
    layer = next(layer for layer in model.layers if layer.name.startswith("last"))
    kernel, *rest = layer.get_weights()
    kernel[..., 5] *= 1 + size
    layer.set_weights([kernel, *rest])
    with pytest.raises(ValueError, match=r"first at node 'last' \(Conv\)"):
        teachers.check_parity(model, noisy)


class Shifted(KerasRuntime):
    """A source whose numbers are all off by a little, and which rounds a little less."""

    def run(self, images, tensors):
        return {name: array + 3e-4 for name, array in super().run(images, tensors).items()}

    def otherwise(self):
        return Rounded(self._model)


class Rounded(Shifted):
    """The same in another order."""

    def run(self, images, tensors):
        return {name: array + 1e-6 for name, array in super().run(images, tensors).items()}


def test_error_beside_the_noise_is_told_with_both_numbers():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 8, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 3, activation="sigmoid")(inputs))
    with pytest.raises(ValueError, match=r"differs by 0\.0003 .* from itself by 1e-06 .* 0\.001"):
        teachers.check_parity(model, Shifted(model))


def test_noise_is_measured_only_where_the_tolerance_is_missed(noisy):
    model = teachers.from_onnx(noisy, verify=False)
    errors = teachers.check_parity(model, noisy, tolerance=1e-3)["outputs"]["y"]
    assert LARGEST not in errors


def test_quantized_networks_keep_the_plain_rule(build, tmp_path):
    path = tmp_path / "quantized.onnx"
    onnx.save(steep(build, quantized=True), path)
    model = teachers.from_onnx(path, verify=False)
    assert in_another_order(pair(model, path).runtime) is None


@pytest.mark.parametrize(
    ("error", "mean", "noise", "mean_noise", "allowed"),
    [
        (4e-4, 1e-5, 3e-4, 1e-5, True),
        (7e-4, 1e-5, 3e-4, 1e-5, False),  # Twice the source's, and more.
        (4e-4, 3e-5, 3e-4, 1e-5, False),  # In all elements rather than a few.
        (2e-3, 1e-5, 3e-3, 1e-5, False),  # More than may be noise, whatever the source does.
        (np.inf, np.inf, np.inf, np.inf, False),
        (4e-4, 1e-5, None, None, False),  # The source knows one order only.
    ],
)
def test_noise_is_no_more_than_the_sources_own(error, mean, noise, mean_noise, allowed):
    errors = {"max_abs_error": error, "mean_abs_error": mean, "range": 1.0}
    if noise is not None:
        errors |= {LARGEST: noise, MEAN: mean_noise}
    assert is_noise(errors) == allowed


def test_keras_source_differs_from_itself_when_it_is_compiled():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 8, 3))
    outputs = keras.layers.Dense(4)(keras.layers.Conv2D(64, 3, name="conv")(inputs))
    runtime = KerasRuntime(keras.Model(inputs, outputs))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 9, 8, 3)).astype(np.float32)
    other_order = in_another_order(runtime)
    assert other_order is not None
    one, other = (r.run(images, ["conv"])["conv"] for r in (runtime, other_order))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_teacher_is_checked_by_the_same_rule(build, tmp_path):
    path = tmp_path / "steep.onnx"
    network = steep(build)
    network.graph.node.append(make_node("ReduceMean", ["y"], ["z"], axes=[2, 3], keepdims=0))
    del network.graph.output[:]
    network.graph.output.append(onnx.helper.make_tensor_value_info("z", 1, ["batch", 64]))
    onnx.save(network, path)
    teacher = ka.Teacher(
        teachers.from_onnx(path),
        "steep",
        [str(index) for index in range(64)],
        tap="y",
        outputs="logits",
        preprocessing=ka.Preprocessing(size=(24, 24), scale=1 / 64),
    )
    # The tap is the noisy tensor; what enters the network may differ in its last bit, too.
    errors = teachers.check_teacher(teacher, path, allow_difference=True)["taps"]["y"]
    assert errors["max_abs_error"] < 1e-4 or LARGEST in errors

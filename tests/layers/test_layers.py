"""The layers of the common space: golden values, shapes, settings, files."""

import inspect

import keras
import numpy as np
import pytest

from keras_amalgam.layers import Adapter, CommonExtractor, FeatureDecoder
from keras_amalgam.layers.common_space import ResidualBlock

LAYERS = {
    "adapter": (lambda: Adapter(6, name="a"), 6),
    "block": (lambda: ResidualBlock(6, name="b"), 6),
    "extractor": (lambda: CommonExtractor(6, num_blocks=2, name="c"), 6),
    "decoder": (lambda: FeatureDecoder(6, name="d"), 6),
}
SHAPES = {"map": (3, 5, 4, 8), "vector": (3, 8)}


@pytest.fixture(params=LAYERS.values(), ids=LAYERS)
def layer(request):
    return request.param[0]()


def features(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def golden_block(golden, number):
    block = ResidualBlock(16)
    block.build((None, 5, 5, 32 if number == 0 else 16))
    block.first.kernel.assign(golden[f"extractor.{number}.conv1.weight"])
    block.second.kernel.assign(golden[f"extractor.{number}.conv2.weight"])
    if number == 0:
        block.skip.kernel.assign(golden["extractor.0.downsample.0.weight"])
    return block


def test_adapter_extractor_and_decoder_one_by_one_lead_to_the_golden_values(golden, assert_golden):
    """The reference has no values in between, so each layer is held against NumPy on the way."""
    adapter = Adapter(32)
    adapter.build((None, 5, 5, 24))
    adapter.linear.kernel.assign(golden["align_s.0.weight"])
    adapted = np.asarray(adapter(golden["student_features"]))
    by_hand = np.maximum(golden["student_features"] @ golden["align_s.0.weight"][0, 0], 0)
    assert_golden(adapted, by_hand)
    x = adapted
    for number in range(3):
        x = golden_block(golden, number)(x)
    assert_golden(x, golden["common_student"])


@pytest.mark.parametrize("teacher", [0, 1])
def test_decoder_of_golden_common_features_is_golden(golden, assert_golden, teacher):
    decoder = FeatureDecoder(golden[f"teacher_features_{teacher}"].shape[-1])
    decoder.build((None, 5, 5, 16))
    decoder.hidden.kernel.assign(golden[f"dec_t.{teacher}.0.weight"])
    decoder.linear.kernel.assign(golden[f"dec_t.{teacher}.2.weight"])
    reconstruction = decoder(golden[f"common_teacher_{teacher}"])
    assert_golden(reconstruction, golden[f"reconstruction_{teacher}"])


def test_golden_comparison_fails_when_a_skip_is_left_out(golden, assert_golden):
    x = golden["common_student"]
    block = golden_block(golden, 1)
    without_skip = np.maximum(np.asarray(block.second(block.first(x))), 0)
    with pytest.raises(AssertionError, match="largest error"):
        assert_golden(block(x), without_skip)


def test_block_of_vectors_equals_numpy():
    block, x = ResidualBlock(6), features((3, 8))
    result = np.asarray(block(x))
    first, second, skip = (np.asarray(k.kernel) for k in (block.first, block.second, block.skip))
    np.testing.assert_allclose(
        result, np.maximum(np.maximum(x @ first, 0) @ second + x @ skip, 0), atol=1e-5
    )


def test_block_of_equal_channels_has_no_skip_weights():
    block = ResidualBlock(8)
    block.build((None, 5, 5, 8))
    assert block.skip is None
    assert len(block.weights) == 2


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_only_the_channels_change(layer, shape):
    assert tuple(layer(features(shape)).shape) == (*shape[:-1], 6)
    assert tuple(layer.compute_output_shape((None, *shape[1:]))) == (None, *shape[1:-1], 6)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_no_layer_has_a_bias_so_nothing_comes_of_nothing(layer, shape):
    np.testing.assert_array_equal(layer(np.zeros(shape, "float32")), np.zeros((*shape[:-1], 6)))
    assert all("bias" not in weight.path for weight in layer.weights)


def test_images_of_a_batch_do_not_see_each_other(layer):
    """What lets student and teachers pass the extractor as one batch: no batch statistics."""
    x = features(SHAPES["map"])
    alone = np.concatenate([layer(x[i : i + 1], training=True) for i in range(len(x))])
    np.testing.assert_allclose(layer(x, training=True), alone, atol=1e-5)


def test_config_has_every_argument_of_the_constructor(layer):
    config = layer.get_config()
    arguments = set(inspect.signature(type(layer)).parameters) - {"kwargs"}
    assert arguments <= set(config)
    again = type(layer).from_config(config)
    assert again.get_config() == config
    assert {name: getattr(again, name) for name in arguments} == {
        name: getattr(layer, name) for name in arguments
    }


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_model_of_the_layer_is_the_same_after_saving_and_loading(layer, shape, tmp_path):
    inputs = keras.Input(shape[1:])
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(features(shape)), model(features(shape)))
    assert len(again.weights) == len(model.weights) > 0


def test_layers_inside_take_the_policy(layer):
    mixed = type(layer).from_config(layer.get_config() | {"dtype": "mixed_bfloat16"})
    result = mixed(features(SHAPES["map"]))
    assert result.dtype == "bfloat16"
    assert {weight.dtype for weight in mixed.weights} == {"float32"}


@pytest.mark.parametrize(
    "build",
    [
        lambda: Adapter(0),
        lambda: ResidualBlock(-1),
        lambda: CommonExtractor(0),
        lambda: CommonExtractor(4, num_blocks=0),
        lambda: FeatureDecoder(0),
    ],
)
def test_numbers_below_one_are_refused(build):
    with pytest.raises(ValueError, match="must be at least 1. Received: "):
        build()

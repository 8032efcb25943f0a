"""The forms of the common space: one interface, shapes, batch norm, files, NumPy."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_amalgam.layers import (
    Adapter,
    AdapterB,
    CommonExtractor,
    CommonExtractorB,
    FeatureDecoder,
    FeatureDecoderB,
    VariantA,
    VariantB,
    common_space_variant,
)
from keras_amalgam.layers.blocks import DenseBlock, NormalizedResidualBlock

SHAPES = {"map": (3, 5, 4, 8), "vector": (3, 8)}
LAYERS = {
    "adapter": lambda: AdapterB(6, name="a"),
    "extractor": lambda: CommonExtractorB(6, name="c"),
    "decoder": lambda: FeatureDecoderB(6, name="d"),
}
BLOCKS = {"map": lambda: NormalizedResidualBlock(6), "vector": lambda: DenseBlock(6)}


@pytest.fixture(params=LAYERS.values(), ids=LAYERS)
def layer(request):
    return request.param()


def features(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def weights_of(layer):
    return [np.asarray(weight) for weight in layer.weights]


def randomize(layer, seed=5):
    """Weights of all kinds away from zeros and ones, variances positive."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        weight.assign(rng.uniform(0.2, 0.9, weight.shape) * rng.choice([-1, 1], weight.shape))
        if "variance" in weight.path:
            weight.assign(np.abs(weight))


def numpy_norm(x, norm, training=False):
    mean, variance = np.asarray(norm.moving_mean), np.asarray(norm.moving_variance)
    if training:
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / np.sqrt(variance + 1e-5) * np.asarray(norm.gamma) + np.asarray(norm.beta)


def numpy_convolution(x, kernel):
    """3×3, zeros around the map, by its nine shifted products."""
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [(i, j) for i in range(3) for j in range(3)]
    return sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i, j in shifts)


def relu(x):
    return np.maximum(x, 0)


def dense(x, layer):
    return x @ np.asarray(layer.kernel) + np.asarray(layer.bias)


@pytest.mark.parametrize("training", [False, True])
def test_adapter_of_maps_is_a_matrix_product_batch_norm_and_relu(training):
    layer, x = AdapterB(6), features(SHAPES["map"])
    layer.build(x.shape)
    randomize(layer)
    product = x @ np.asarray(layer.linear.kernel)[0, 0]
    expected = relu(numpy_norm(product, layer.norm, training))
    np.testing.assert_allclose(layer(x, training=training), expected, atol=1e-5)


def test_adapter_of_vectors_is_a_dense_layer_and_relu():
    layer, x = AdapterB(6), features(SHAPES["vector"])
    layer.build(x.shape)
    randomize(layer)
    np.testing.assert_allclose(layer(x), relu(dense(x, layer.linear)), atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("channels", [6, 8], ids=["plain skip", "convolved skip"])
def test_block_with_batch_norm_equals_numpy(channels, training):
    block, x = NormalizedResidualBlock(6), features((3, 5, 4, channels))
    block.build(x.shape)
    randomize(block)
    first, second = np.asarray(block.first.kernel), np.asarray(block.second.kernel)
    hidden = relu(numpy_norm(numpy_convolution(x, first), block.first_norm, training))
    hidden = numpy_norm(numpy_convolution(hidden, second), block.second_norm, training)
    skip = x
    if channels == 8:
        skip = numpy_norm(x @ np.asarray(block.skip.kernel)[0, 0], block.skip_norm, training)
    expected = relu(hidden + skip)
    np.testing.assert_allclose(block(x, training=training), expected, atol=1e-4)


def test_extractor_of_maps_is_two_blocks_with_batch_norm():
    extractor, x = CommonExtractorB(6), features((3, 5, 4, 6))
    extractor.build(x.shape)
    randomize(extractor)
    assert [type(block) for block in extractor.blocks] == [NormalizedResidualBlock] * 2
    first, second = extractor.blocks
    np.testing.assert_allclose(extractor(x), second(first(x)), atol=1e-5)


def test_extractor_of_vectors_is_two_dense_layers_with_relu_between():
    extractor, x = CommonExtractorB(6), features((3, 6))
    extractor.build(x.shape)
    randomize(extractor)
    (block,) = extractor.blocks
    np.testing.assert_allclose(
        extractor(x), dense(relu(dense(x, block.first)), block.second), atol=1e-5
    )


@pytest.mark.parametrize("training", [False, True])
def test_decoder_of_maps_keeps_the_common_width_until_its_last_convolution(training):
    decoder, x = FeatureDecoderB(6), features(SHAPES["map"])
    decoder.build(x.shape)
    randomize(decoder)
    hidden = x @ np.asarray(decoder.hidden.kernel)[0, 0]
    hidden = relu(numpy_norm(hidden, decoder.norm, training))
    last = np.asarray(decoder.linear.kernel)[0, 0]
    expected = hidden @ last + np.asarray(decoder.linear.bias)
    assert hidden.shape[-1] == 8
    np.testing.assert_allclose(decoder(x, training=training), expected, atol=1e-5)


def test_decoder_of_vectors_has_the_teachers_width_at_once():
    decoder, x = FeatureDecoderB(6), features(SHAPES["vector"])
    decoder.build(x.shape)
    randomize(decoder)
    expected = dense(relu(dense(x, decoder.hidden)), decoder.linear)
    assert decoder.hidden.units == 6
    np.testing.assert_allclose(decoder(x), expected, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_only_the_channels_change(layer, shape):
    assert tuple(layer(features(shape)).shape) == (*shape[:-1], 6)
    assert tuple(layer.compute_output_shape((None, *shape[1:]))) == (None, *shape[1:-1], 6)


def test_statistics_of_maps_move_in_training_alone(layer):
    x = features(SHAPES["map"])
    layer(x)
    before = weights_of(layer)
    layer(x, training=False)
    for weight, old in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)
    layer(x, training=True)
    moved = [
        weight.path.rsplit("/", 1)[-1]
        for weight, old in zip(layer.weights, before, strict=True)
        if not np.array_equal(weight, old)
    ]
    assert set(moved) == {"moving_mean", "moving_variance"}


def test_training_of_an_outer_layer_reaches_batch_norm(layer):
    """As in a term, whose own call is told."""

    class Outer(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layer

        def call(self, x, training=None):
            return self.inner(x)

    x, outer = features(SHAPES["map"]), Outer()
    outer(x)
    alone = layer(x, training=True)
    np.testing.assert_allclose(outer(x, training=True), alone, atol=1e-5)
    assert not np.allclose(outer(x, training=False), alone, atol=1e-3)


def test_layers_of_vectors_have_no_statistics(layer):
    layer(features(SHAPES["vector"]))
    assert layer.non_trainable_weights == []


def test_config_has_every_argument_of_the_constructor(layer):
    config = layer.get_config()
    arguments = set(inspect.signature(type(layer)).parameters) - {"kwargs"}
    assert arguments <= set(config)
    again = type(layer).from_config(config)
    assert again.get_config() == config
    assert {name: getattr(again, name) for name in arguments} == {
        name: getattr(layer, name) for name in arguments
    }


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_model_of_the_layer_is_the_same_after_saving_and_loading(layer, shape, tmp_path):
    inputs = keras.Input(shape[1:])
    model = keras.Model(inputs, layer(inputs))
    randomize(layer)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(features(shape)), model(features(shape)))
    assert len(again.weights) == len(model.weights) > 0


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_layers_inside_take_the_policy(layer, shape):
    mixed = type(layer).from_config(layer.get_config() | {"dtype": "mixed_bfloat16"})
    assert mixed(features(shape), training=True).dtype == "bfloat16"
    assert {weight.dtype for weight in mixed.weights} == {"float32"}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_compiled_by_xla_a_training_step_is_the_same(layer, shape):
    x = tf.constant(features(shape))
    layer.build(shape)

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(layer(x, training=True) - 1.0))
        variables = [weight.value for weight in layer.trainable_weights]
        return loss, *tape.gradient(loss, variables)

    for actual, expected in zip(tf.function(step, jit_compile=True)(), step(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", SHAPES)
def test_call_of_a_block_traces_stock_layers_alone(kind, tmp_path):
    """So a model with a place in the common space loads without this package."""
    inputs = keras.Input((*SHAPES[kind][1:-1], 6))
    block = BLOCKS[kind]()
    block.build((None, *inputs.shape[1:]))
    model = keras.Model(inputs, block.call(inputs))
    assert not [layer for layer in model.layers if "amalgam" in type(layer).__module__]
    x = features((3, *inputs.shape[1:]))
    np.testing.assert_allclose(model(x), block(x), atol=1e-6)


@pytest.mark.parametrize(("name", "variant"), [("A", VariantA), ("B", VariantB)])
def test_variant_is_chosen_by_its_name(name, variant):
    assert common_space_variant(name, units=4) == variant(4)


def test_layers_of_variant_a_are_the_published_releases():
    space = VariantA(4)
    adapter, extractor, decoder = space.adapter(), space.extractor(), space.decoder(9)
    kinds = [type(layer) for layer in (adapter, extractor, decoder)]
    assert kinds == [Adapter, CommonExtractor, FeatureDecoder]
    assert (adapter.units, extractor.units, decoder.channels) == (8, 4, 9)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", ["A", "B"])
def test_every_variant_leads_to_its_units_and_back(name, shape):
    space = common_space_variant(name, units=4)
    adapter, extractor = space.adapter(name="adapter"), space.extractor(dtype="float32")
    adapted = adapter(features(shape), training=True)
    assert adapted.shape[-1] == space.adapted_units
    extractor.build((None, *adapted.shape[1:]))
    common = extractor(adapted, training=True)
    assert tuple(common.shape) == (*shape[:-1], 4)
    decoder = space.decoder(shape[-1])
    assert tuple(decoder(common, training=True).shape) == shape
    assert adapter.name == "adapter"


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", ["A", "B"])
def test_variant_tells_whether_images_see_each_other_in_training(name, kind):
    shape, space = SHAPES[kind], common_space_variant(name, units=4)
    adapter, extractor = space.adapter(), space.extractor()

    def common(x):
        return np.asarray(extractor(adapter(x, training=True), training=True))

    x = features(shape)
    together, alone = common(x), np.concatenate([common(x[i : i + 1]) for i in range(len(x))])
    assert space.mixes_batch(len(shape)) == (not np.allclose(together, alone, atol=1e-4))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_variant_b_learns_to_reconstruct(shape):
    space, x = VariantB(8), np.tile(features(shape), (60, *[1] * (len(shape) - 1)))
    inputs = keras.Input(shape[1:])
    common = space.extractor()(space.adapter()(inputs))
    model = keras.Model(inputs, space.decoder(shape[-1])(common))
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    before = np.mean((model(x[:3], training=True) - x[:3]) ** 2)
    model.fit(x, x, batch_size=3, shuffle=False, verbose=0)
    assert np.mean((model(x[:3], training=True) - x[:3]) ** 2) < 0.6 * before


@pytest.mark.parametrize(
    "build",
    [
        lambda: AdapterB(0),
        lambda: NormalizedResidualBlock(-1),
        lambda: DenseBlock(0),
        lambda: CommonExtractorB(0),
        lambda: CommonExtractorB(4, num_blocks=0),
        lambda: FeatureDecoderB(0),
        lambda: VariantA(0),
        lambda: common_space_variant("B", units=0),
    ],
)
def test_numbers_below_one_are_refused(build):
    with pytest.raises(ValueError, match="must be at least 1. Received: "):
        build()


def test_variant_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"must be one of \['A', 'B'\]. Received: 'C'"):
        common_space_variant("C", units=4)

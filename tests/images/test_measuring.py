"""The normalisation inside a model as it is measured, against NumPy's own `preprocess_input`."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_amalgam.images.built_in import SeveralWays
from keras_amalgam.images.measuring import built_in_normalisation

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 12, 10, 3)).astype(np.float32)
CAFFE = np.float32([103.939, 116.779, 123.68])
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def network(prepare, shape=(12, 10, 3), dtype=None):
    """A convolution behind what is to be measured."""
    inputs = keras.Input(shape, dtype=dtype)
    return keras.Model(inputs, layers.Conv2D(5, 3)(prepare(inputs)))


def applied(built_in, images=IMAGES):
    order = list(built_in.order)
    return (images * np.float32(built_in.scale) + np.float32(built_in.offset))[..., order]


def with_statistics(norm, mean, variance, gamma=(1.0, 1.0, 1.0), beta=(0.0, 0.0, 0.0)):
    norm.build((None, None, None, 3))
    norm.set_weights([np.float32(value) for value in (gamma, beta, mean, variance)])
    return norm


def diagonal(layer, kernel, bias):
    layer.build((None, None, None, 3))
    layer.set_weights([np.float32(kernel), np.float32(bias)])
    return layer


@pytest.mark.parametrize(
    "family",
    ["densenet", "inception_resnet_v2", "inception_v3", "mobilenet", "mobilenet_v2", "nasnet",
     "resnet", "resnet50", "resnet_v2", "vgg16", "vgg19", "xception"],
)  # fmt: skip
def test_preprocess_input_of_every_family_is_reported_as_numpy_computes_it(family):
    preprocess_input = getattr(keras.applications, family).preprocess_input
    built_in = built_in_normalisation(network(preprocess_input))
    np.testing.assert_allclose(applied(built_in), preprocess_input(IMAGES.copy()), atol=1e-4)
    assert built_in.expects == "0..255"
    assert built_in.turns_colours == (family in ("resnet", "resnet50", "vgg16", "vgg19"))


@pytest.mark.parametrize("family", ["convnext", "efficientnet", "efficientnet_v2", "mobilenet_v3"])
def test_preprocess_input_that_changes_nothing_is_none(family):
    preprocess_input = getattr(keras.applications, family).preprocess_input
    assert built_in_normalisation(network(preprocess_input)) is None


WRITTEN = {
    "x / 127.5 - 1": lambda x: x / 127.5 - 1,
    "(x - 127.5) / 127.5": lambda x: (x - 127.5) / 127.5,
    "x * a + b": lambda x: -1 + 2 / 255 * x,
    "multiply": lambda x: ops.subtract(ops.multiply(x, 1 / 127.5), 1.0),
    "Rescaling": layers.Rescaling(1 / 127.5, -1.0),
    "two Rescalings": lambda x: layers.Rescaling(2.0, -1.0)(layers.Rescaling(1 / 255)(x)),
    "Normalization": layers.Normalization(mean=[127.5] * 3, variance=[127.5**2] * 3),
    "BatchNormalization": with_statistics(
        layers.BatchNormalization(epsilon=0.0), [127.5] * 3, [127.5**2] * 3
    ),
    "1x1 convolution": diagonal(layers.Conv2D(3, 1), np.eye(3)[None, None] / 127.5, [-1.0] * 3),
    "1x1 depthwise": diagonal(
        layers.DepthwiseConv2D(1), np.full((1, 1, 3, 1), 1 / 127.5), [-1.0] * 3
    ),
    "padded": lambda x: layers.ZeroPadding2D(2)(x / 127.5 - 1),
    "resized": lambda x: ops.image.resize(x, (7, 9), antialias=True) / 127.5 - 1,
    "cropped": lambda x: layers.CenterCrop(6, 6)(x) / 127.5 - 1,
    "augmented": lambda x: layers.RandomRotation(0.2)(layers.RandomFlip()(x)) / 127.5 - 1,
    "cast": lambda x: ops.cast(ops.cast(x, "uint8"), "float32") / 127.5 - 1,
    "turned axes": lambda x: layers.Permute((2, 3, 1))(layers.Permute((3, 1, 2))(x) / 127.5 - 1),
    "by channel": lambda x: layers.Concatenate()([x[..., c : c + 1] / 127.5 - 1 for c in range(3)]),
    "nested": lambda x: keras.Sequential(
        [keras.Input((12, 10, 3)), layers.Rescaling(1 / 127.5), layers.Rescaling(1.0, -1.0)]
    )(x),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_one_normalisation_is_the_same_however_it_is_written(how):
    built_in = built_in_normalisation(network(WRITTEN[how]))
    np.testing.assert_allclose(applied(built_in), IMAGES / 127.5 - 1, atol=1e-4)
    assert str(built_in) == "pixels / 127.5 - 1"
    assert built_in.learned == (how == "BatchNormalization")


FLIPS = {
    "[..., ::-1]": lambda x: x[..., ::-1],
    "flip": lambda x: ops.flip(x, axis=-1),
    "take": lambda x: ops.take(x, [2, 1, 0], axis=-1),
    "split": lambda x: ops.concatenate(ops.split(x, 3, axis=-1)[::-1], axis=-1),
    "slices": lambda x: layers.Concatenate()([x[..., 2:], x[..., 1:2], x[..., :1]]),
}


@pytest.mark.parametrize("how", FLIPS)
def test_channels_that_change_places_are_seen(how):
    built_in = built_in_normalisation(network(lambda x: FLIPS[how](x) - CAFFE))
    np.testing.assert_allclose(applied(built_in), IMAGES[..., ::-1] - CAFFE, atol=1e-4)
    assert (built_in.order, built_in.takes_bgr) == ((2, 1, 0), False)
    assert str(built_in) == "BGR: pixels - (103.939, 116.779, 123.68)"
    twice = built_in_normalisation(network(lambda x: FLIPS[how](FLIPS[how](x))))
    assert twice is None


def test_adapted_normalization_is_that_of_its_images():
    layer = layers.Normalization()
    layer.adapt(IMAGES)
    built_in = built_in_normalisation(network(layer))
    np.testing.assert_allclose(built_in.mean, IMAGES.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(built_in.std, IMAGES.std((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("depth", [1, 3])
def test_normalisation_is_found_in_nested_models_at_any_depth(depth):
    model = network(lambda x: x / 255)
    for index in range(depth):
        inputs = keras.Input((12, 10, 3))
        model = (
            keras.Sequential([inputs, model]) if index % 2 else keras.Model(inputs, model(inputs))
        )
    assert str(built_in_normalisation(model)) == "pixels / 255"


def test_model_that_is_called_twice_on_one_normalised_image_counts_once():
    part = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3)])

    def both(x):
        x = x / 255
        return layers.Concatenate()([part(x), part(layers.ZeroPadding2D(1)(x))[:, 1:-1, 1:-1]])

    assert str(built_in_normalisation(network(both))) == "pixels / 255"


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16"])
def test_images_of_other_types_are_measured_alike(dtype):
    model = network(lambda x: ops.cast(x, "float32") / 127.5 - 1, dtype=dtype)
    assert str(built_in_normalisation(model)) == "pixels / 127.5 - 1"


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_precise_enough(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = network(layers.Rescaling(1 / 127.5, -1.0))
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(
        applied(built_in_normalisation(model)), IMAGES / 127.5 - 1, atol=0.02
    )


@pytest.mark.parametrize(
    ("prepare", "channels"),
    [
        (lambda x: layers.Concatenate()([x] * 3) / 255, 1),
        (lambda x: ops.repeat(x, 3, axis=-1) / 255, 1),
        (lambda x: ops.mean(x, axis=-1, keepdims=True) / 255, 3),
    ],
    ids=["three of one", "repeated", "one of three"],
)
def test_grey_images_and_grey_of_colours_are_measured(prepare, channels):
    built_in = built_in_normalisation(network(prepare, (None, None, channels)))
    assert str(built_in) == "pixels / 255"


def test_network_of_vectors_is_measured_too():
    inputs = keras.Input((6, 6, 1))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(inputs) / 255))
    assert str(built_in_normalisation(model)) == "pixels / 255"


@pytest.mark.parametrize(
    ("prepare", "says", "expects"),
    [
        (lambda x: (x - MEAN) / STD, "(pixels - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)",
         "0..1"),
        (lambda x: (ops.clip(x, 0, 1) - 0.5) / 0.25, "(pixels - 0.5) / 0.25", "0..1"),
        (lambda x: x * 255, "pixels * 255", "0..1"),
        (lambda x: (x + 1) / 2, "pixels / 2 + 0.5", "-1..1"),
        (lambda x: x * 127.5 + 127.5, "(pixels - -1) * 127.5", "-1..1"),
        (lambda x: x - CAFFE[::-1], "pixels - (123.68, 116.779, 103.939)", "0..255"),
        (lambda x: 1 - x / 255, "(pixels - 255) / -255", "0..255"),
        (lambda x: x * 2, "pixels / 0.5", None),
        # torchvision's Inception: from ImageNet's mean and std to -1..1.
        (lambda x: x * np.float32([0.458, 0.448, 0.45]) - np.float32([0.03, 0.088, 0.188]),
         None, None),
    ],
)  # fmt: skip
def test_range_that_a_normalisation_takes_is_told_by_its_numbers(prepare, says, expects):
    built_in = built_in_normalisation(network(prepare))
    assert says in (None, str(built_in))
    assert built_in.expects == expects


UNCHANGED = {
    "nothing": lambda x: x,
    "resize": lambda x: ops.image.resize(x, (20, 20)),
    "padding": layers.ZeroPadding2D(3),
    "cast": lambda x: ops.cast(ops.cast(x, "int32"), "float32"),
    "dropout": layers.Dropout(0.5),
    "there and back": lambda x: (x / 255) * 255,
    "fresh batch norm": layers.BatchNormalization(),
    "each image by itself": lambda x: (
        (x - ops.mean(x, axis=(1, 2, 3), keepdims=True)) / ops.std(x, axis=(1, 2, 3), keepdims=True)
    ),
    "layer norm": layers.LayerNormalization(),
    "group norm": layers.GroupNormalization(3),
    "tanh": ops.tanh,
    "gamma": lambda x: x**0.5,
    "difference of two colours": lambda x: x[..., :1] - x[..., 1:2],
    "learned batch norm": with_statistics(
        layers.BatchNormalization(), [120.0] * 3, [3600.0] * 3, (1.1, 0.9, 1.3), (0.1, 0.2, -0.1)
    ),
}


@pytest.mark.parametrize("what", UNCHANGED)
def test_what_is_no_fixed_normalisation_is_none(what):
    assert built_in_normalisation(network(UNCHANGED[what])) is None


@pytest.mark.parametrize(
    "layer",
    [layers.Conv2D(3, 3), layers.DepthwiseConv2D(3), layers.Conv2D(3, 1), layers.Dense(3)],
    ids=lambda layer: layer.name,
)
def test_learned_layers_in_front_are_none_and_hide_what_is_behind(layer):
    keras.utils.set_random_seed(0)
    assert built_in_normalisation(network(lambda x: layer(x) / 255)) is None


def test_channels_that_go_ways_of_their_own_count_together():
    def apart(x):
        return layers.Add()([layers.Conv2D(2, 3)(x[..., c : c + 1] - CAFFE[c]) for c in range(3)])

    assert built_in_normalisation(network(apart)).offset == pytest.approx(tuple(-CAFFE), abs=1e-3)


caffe = keras.applications.vgg16.preprocess_input
BRANCHES = {
    "ensemble": (caffe, layers.Rescaling(1 / 255)),
    "skip of the image": (lambda x: x, layers.Rescaling(1 / 255)),
    "order of the colours": (lambda x: x / 255, lambda x: x[..., ::-1] / 255),
}
SAYS = {
    "ensemble": {"BGR: pixels - (103.939, 116.779, 123.68)", "pixels / 255"},
    "skip of the image": {"pixels", "pixels / 255"},
    "order of the colours": {"BGR: pixels / 255", "pixels / 255"},
}


@pytest.mark.parametrize("which", BRANCHES)
def test_branches_that_differ_are_several_ways(which):
    def ensemble(x):
        return layers.Add()([layers.Conv2D(2, 1)(branch(x)) for branch in BRANCHES[which]])

    found = built_in_normalisation(network(ensemble))
    assert isinstance(found, SeveralWays) and found.expects == "0..255"
    assert {str(way) for way in found.ways} == SAYS[which]
    assert set(str(found).split("; ")) == SAYS[which]


def grey_of(x):
    return x if x.shape[-1] == 1 else ops.image.rgb_to_grayscale(x)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("top", [255, 1])
def test_grey_that_gets_numbers_of_its_own_for_each_of_three_channels_is_several_ways(
    top, channels
):
    mean, std = MEAN * np.float32(top), STD * np.float32(top)

    def colours(x):
        return (layers.Concatenate()([grey_of(x)] * 3) - mean) / std

    found = built_in_normalisation(network(colours, (12, 10, channels)))
    assert isinstance(found, SeveralWays) and found.expects == f"0..{top}"
    weights = 1 if channels == 1 else 0.2989 + 0.587 + 0.114  # Keras's, of red, green and blue.
    np.testing.assert_allclose([way.mean[0] for way in found.ways], mean / weights, rtol=1e-4)
    np.testing.assert_allclose([way.std[0] for way in found.ways], std / weights, rtol=1e-4)


@pytest.mark.parametrize(
    "branches",
    [
        (lambda x: x, lambda x: ops.image.resize(x, (12, 10))),
        (lambda x: x, lambda x: x[..., ::-1]),
        (lambda x: x, lambda x: -x),
        (lambda x: x, lambda x: x - ops.mean(x, axis=(1, 2), keepdims=True)),
        (lambda x: x, lambda x: layers.AveragePooling2D(3, 1, "same")(x)),
    ],
    ids=["resized", "turned", "negative", "each image by itself", "blurred"],
)
def test_branches_that_leave_the_range_of_pixels_alone_are_none(branches):
    def both(x):
        return layers.Add()([layers.Conv2D(2, 1)(branch(x)) for branch in branches])

    assert built_in_normalisation(network(both)) is None

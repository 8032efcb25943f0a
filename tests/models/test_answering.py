"""The part behind a tap: on the model's own features it answers as the model does."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_amalgam as ka
from keras_amalgam import teachers
from keras_amalgam.models.answering import answering_part
from keras_amalgam.models.taps import Tap, as_features, with_taps

DEMO = Path(ka.__file__).parent / "data" / "demo" / "teachers"


def images_for(model, number=4):
    shape = (number, *model.inputs[0].shape[1:])
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def enlivened(model):
    """As trained: an untrained normalization does nothing, and deep networks answer all alike."""
    random = np.random.default_rng(1)
    ranges = {"gamma": (0.7, 1.5), "beta": (-0.3, 0.3), "bias": (-0.3, 0.3)}
    for weight in model.weights:
        if weight.name in ranges:
            weight.assign(random.uniform(*ranges[weight.name], weight.shape))
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(images_for(model), training=True)
    for norm in norms:
        norm.momentum = 0.99
    return model


def at_tap(model, tap):
    """Features of some images, and the model's answer to them, of one forward pass."""
    result = with_taps(model, [tap.layer])(images_for(model), training=False)
    return np.array(as_features(result["taps"][0], tap.tokens)), np.array(result["output"])


def answers_alike(part, features, answer):
    return np.abs(np.asarray(part(features)) - answer).max() <= 1e-5


def assert_answers(model, tap, layers_behind=None):
    """That the part answers as the model, and that features of other images would be noticed."""
    tap = tap if isinstance(tap, Tap) else Tap(tap)
    part = answering_part(model, tap)
    features, answer = at_tap(model, tap)
    np.testing.assert_allclose(answer, model(images_for(model), training=False), atol=1e-5)
    assert part.input_shape[1:] == features.shape[1:]
    assert answers_alike(part, features, answer)
    assert not answers_alike(part, np.roll(features, 1, axis=0), answer)
    assert not answers_alike(part, np.roll(features, 1, axis=-1), answer)
    if layers_behind is not None:
        assert [layer.name for layer in part.layers[1:]] == layers_behind
    return part


def normalised(x, channels, name, side=3, strides=1):
    x = layers.Conv2D(channels, side, strides, padding="same", name=f"{name}_conv")(x)
    return layers.BatchNormalization(name=f"{name}_norm")(x)


def block(x, channels, name, strides=1):
    y = layers.ReLU(name=f"{name}_relu")(normalised(x, channels, f"{name}_1", 3, strides))
    y = normalised(y, channels, f"{name}_2")
    if strides > 1:
        x = normalised(x, channels, f"{name}_way", 1, strides)
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, y]))


def plain(name="plain"):
    images = keras.Input((8, 8, 3))
    x = layers.ReLU(name="map")(normalised(images, 5, "stem"))
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    x = layers.Dense(6, activation="tanh", name="hidden")(x)
    return enlivened(keras.Model(images, layers.Dense(4, name="logits")(x), name=name))


def residual(include_top=True):
    images = keras.Input((8, 8, 3))
    x = layers.ReLU(name="stem")(normalised(images, 4, "first"))
    x = block(block(block(x, 4, "block1"), 6, "block2", strides=2), 6, "block3")
    if include_top:
        x = layers.Dense(4, name="logits")(layers.GlobalAveragePooling2D(name="pooled")(x))
    return enlivened(keras.Model(images, x, name="residual"))


def over_backbone(backbone, training=None):
    images = keras.Input(backbone.input_shape[1:])
    x = layers.GlobalAveragePooling2D(name="pooled")(backbone(images * 2.0, training=training))
    return keras.Model(images, layers.Dense(4, name="logits")(x), name="whole")


def attending(class_token=False):
    """Sixteen tokens, with a class token in front or without."""
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 2, 2, name="patches")(images)
    x = layers.Reshape((16, 6), name="tokens")(x)
    if class_token:
        x = layers.ZeroPadding1D((1, 0), name="with_class")(x)
    mixed = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.LayerNormalization(name="encoded")(layers.Add(name="attended")([x, mixed]))
    x = layers.Dense(6, activation="gelu", name="mlp")(x)
    if class_token:
        x = layers.Cropping1D((0, 16), name="class")(x)
    x = layers.GlobalAveragePooling1D(name="pooled")(x)
    return enlivened(keras.Model(images, layers.Dense(4, name="logits")(x), name="attending"))


def test_pooling_and_dense_layers_behind_a_map_answer_as_the_model():
    assert_answers(plain(), "map", ["pooled", "hidden", "logits"])


def test_vector_tap_leaves_the_dense_layers_alone():
    assert assert_answers(plain(), "pooled").input_shape == (None, 5)
    assert_answers(plain(), "hidden", ["logits"])


def test_answer_itself_can_be_tapped():
    part = assert_answers(plain(), "logits", [])
    assert part.weights == []


@pytest.mark.parametrize("tap", ["stem", "block1", "block2", "block3", "block2_add"])
def test_whole_residual_blocks_can_follow_the_tap(tap):
    part = assert_answers(residual(), tap)
    behind = [layer.name for layer in part.layers if layer.name.startswith("block")]
    assert not any(name.startswith("block1") for name in behind if tap != "stem")
    assert ("block3_add" in behind) == (tap != "block3")


@pytest.mark.parametrize("tap", ["residual/block1", "block2_add", "block3", "residual"])
def test_tap_inside_a_nested_backbone_leads_through_the_rest_of_it(tap):
    assert_answers(over_backbone(residual(include_top=False)), tap)


def test_tap_two_models_deep_leads_through_both():
    backbone = residual(include_top=False)
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(3, 1, name="before")(images)
    x = layers.Conv2D(5, 1, name="after")(backbone(x))
    middle = keras.Model(images, x, name="middle")
    part = assert_answers(over_backbone(middle), "middle/residual/block2")
    assert [layer.name for layer in part.layers[1:]] == ["middle", "pooled", "logits"]
    assert [layer.name for layer in part.get_layer("middle").layers[1:]] == ["residual", "after"]


@pytest.mark.parametrize("training", [True, False, None])
def test_nested_model_called_in_one_mode_stays_in_it(training):
    model = over_backbone(residual(include_top=False), training)
    part = answering_part(model, Tap("block2"))
    brighter = 2.0 * images_for(model) + 1.0  # Than those that the statistics are of.
    features = np.array(with_taps(model, ["block2"])(brighter)["taps"][0])
    answer = np.array(model(brighter))
    assert answers_alike(part, features, answer)
    in_inference = np.array(part(features, training=False))
    assert answers_alike(part, features, in_inference) == (training is not True)


def test_mobilenet_of_keras_applications_answers_from_the_middle_and_from_its_end():
    model = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=5, classifier_activation=None
    )
    enlivened(model)
    assert_answers(model, "block_6_project_BN")
    assert_answers(model, "out_relu", [layer.name for layer in model.layers[-2:]])


def test_sequential_models_answer_alone_and_nested():
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="conv"), layers.ReLU(name="map")],
        name="inner",
    )
    top = [layers.Flatten(name="flat"), layers.Dense(4, name="logits")]
    assert_answers(
        keras.Sequential([keras.Input((8, 8, 3)), *inner.layers, *top]),
        "conv",
        ["map", "flat", "logits"],
    )
    nested = keras.Sequential([keras.Input((8, 8, 3)), inner, *top])
    assert_answers(nested, "conv", ["inner", "flat", "logits"])
    assert_answers(nested, "map", ["flat", "logits"])


@pytest.mark.parametrize("tokens", ["auto", "map"])
@pytest.mark.parametrize("tap", ["tokens", "encoded"])
def test_tokens_of_a_map_become_tokens_again(tap, tokens):
    part = assert_answers(attending(), Tap(tap, tokens))
    assert part.input_shape == (None, 4, 4, 6)


def test_pooled_tokens_are_refused_and_what_pools_them_can_be_tapped():
    model = attending()
    with pytest.raises(
        ValueError,
        match=r"'encoded' do not .*'attending'. Received: the mean of tokens of shape "
        r"\(None, 16, 6\), by tokens='pooled'.*Tap one of \['pooled', 'logits'\]",
    ):
        answering_part(model, Tap("encoded", "pooled"))
    assert_answers(model, "pooled")


def test_tokens_without_their_class_token_are_refused():
    model = attending(class_token=True)
    with pytest.raises(ValueError, match=r"a map of 4×4 of 17 tokens, without the class token"):
        answering_part(model, Tap("encoded"))
    # In front of it there is a map of all of them.
    assert_answers(model, "tokens")


def suggested(error):
    return str(error.value).split("Tap one of [")[1].split("]")[0].replace("'", "").split(", ")


def test_skip_around_the_tap_is_refused_naming_both_ends_and_taps_that_will_do():
    model = residual()
    with pytest.raises(
        ValueError, match="'block2_add' behind the tap, .* reads 'block2_way_norm'"
    ) as error:
        answering_part(model, Tap("block2_2_norm"))
    assert suggested(error) == ["block2_add", "block2", "block3_add"]
    for tap in suggested(error):
        assert_answers(model, tap)


def test_skip_inside_a_nested_model_is_refused_with_taps_by_path():
    model = over_backbone(residual(include_top=False))
    with pytest.raises(ValueError, match="'block3_add' behind the tap, .* reads 'block2'") as error:
        answering_part(model, Tap("block3_1_conv"))
    assert suggested(error)[0] == "residual/block3_add"
    for tap in suggested(error):
        assert_answers(model, tap)


def test_skip_around_a_nested_model_is_refused():
    images = keras.Input((8, 8, 3))
    backbone = residual(include_top=False)
    x = layers.GlobalAveragePooling2D(name="pooled")(backbone(images))
    y = layers.GlobalAveragePooling2D(name="colours")(images)
    x = layers.Concatenate(name="both")([x, y])
    model = keras.Model(images, layers.Dense(4, name="logits")(x))
    with pytest.raises(ValueError, match=r"'both' .* 'colours', .*\['both', 'logits'\]"):
        answering_part(model, Tap("block2"))
    assert_answers(model, "both", ["logits"])


def test_second_input_behind_the_tap_is_refused():
    images, age = keras.Input((8, 8, 3)), keras.Input((2,), name="age")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="conv")(images))
    x = layers.Concatenate(name="both")([x, age])
    model = keras.Model([images, age], layers.Dense(4, name="logits")(x))
    with pytest.raises(ValueError, match="'both' behind the tap, which also reads 'age'"):
        answering_part(model, Tap("conv"))


def several_outputs():
    """A backbone of two maps, of which the higher one does not pass through the lower one's end."""
    images = keras.Input((8, 8, 3))
    low = layers.Conv2D(4, 3, padding="same", name="low")(images)
    side = layers.Conv2D(4, 3, padding="same", name="side")(low)
    high = layers.Conv2D(4, 3, 2, padding="same", name="high")(low)
    return keras.Model(images, [side, high], name="pyramid")


@pytest.mark.parametrize(("output", "dead"), [(1, "side"), (0, "high")])
def test_tap_that_does_not_lead_to_the_answer_is_refused(output, dead):
    backbone = several_outputs()
    images = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D(name="pooled")(backbone(images)[output])
    model = keras.Model(images, layers.Dense(4, name="logits")(x), name="top")
    with pytest.raises(ValueError, match="'top'. Received: a tap that does not lead to the ans"):
        answering_part(model, Tap(dead))
    alive = {"side": "high", "high": "side"}[dead]
    for tap in ("low", alive):
        assert_answers(model, tap)


def test_layer_called_twice_is_refused_as_a_tap_but_may_follow_one():
    shared = layers.Dense(5, activation="tanh", name="shared")
    images = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D(name="pooled")(layers.Conv2D(5, 3, name="conv")(images))
    model = keras.Model(images, layers.Dense(4, name="logits")(shared(shared(x))))
    assert_answers(model, "conv")
    with pytest.raises(ValueError, match="'shared' is called more than once"):
        answering_part(model, Tap("shared"))


def test_layers_of_any_name_can_stand_behind_the_tap():
    images = keras.Input((8, 8, 3), name="features")
    x = layers.Reshape((16, 12), name="features_as_tokens")(images)
    x = layers.GlobalAveragePooling1D(name="features_")(x)
    model = keras.Model(images, layers.Dense(4)(x))
    assert_answers(model, "features_as_tokens")


def converted_tap(model, layer):
    return Tap(model.provenance.names[layer])


def test_converted_network_answers_from_both_of_its_stages():
    model = teachers.from_onnx(DEMO / "digits.onnx")
    for layer in ("layer1", "layer2"):
        assert_answers(model, converted_tap(model, layer))


def test_weights_are_shared_and_the_model_stays_as_it_is():
    model = residual()
    config, answer = model.get_config(), np.array(model(images_for(model)))
    part = answering_part(model, Tap("block2"))
    assert {id(weight) for weight in part.weights} < {id(weight) for weight in model.weights}
    assert model.get_config() == config
    np.testing.assert_array_equal(model(images_for(model)), answer)


@pytest.mark.parametrize("layer", ["block3_1_conv", "block3_2_norm", "logits"])
def test_altered_weight_behind_the_tap_is_noticed(layer):
    model, tap = residual(), Tap("block2")
    part = answering_part(model, tap)
    features, answer = at_tap(model, tap)
    assert answers_alike(part, features, answer)
    weight = model.get_layer(layer).weights[0]
    weight.assign(weight * 1.01)
    assert not answers_alike(part, features, answer)
    assert answers_alike(part, *at_tap(model, tap))


ANSWERS = """
import sys
import keras, numpy as np
for path in sys.argv[1:]:
    np.save(path + ".npy", keras.saving.load_model(path)(np.load("features.npy")))
assert not [name for name in sys.modules if name.startswith("keras_amalgam")]
"""


@pytest.mark.parametrize("kind", ["residual", "nested", "tokens", "converted"])
def test_saved_part_is_plain_keras(kind, tmp_path):
    model, tap = {
        "residual": lambda: (residual(), Tap("block2")),
        "nested": lambda: (over_backbone(residual(include_top=False), False), Tap("block2")),
        "tokens": lambda: (attending(), Tap("tokens")),
        "converted": lambda: (
            converted := teachers.from_onnx(DEMO / "digits.onnx"),
            converted_tap(converted, "layer1"),
        ),
    }[kind]()
    features, answer = at_tap(model, tap)
    part = answering_part(model, tap)
    part.save(tmp_path / "part.keras")
    assert answers_alike(keras.saving.load_model(tmp_path / "part.keras"), features, answer)


@pytest.mark.slow
def test_saved_part_needs_nothing_of_this_package(tmp_path):
    model, tap = over_backbone(residual(include_top=False)), Tap("block2")
    features, answer = at_tap(model, tap)
    part = answering_part(model, tap)
    part.save(tmp_path / "part.keras")
    part.weights[0].assign(part.weights[0] * 1.01)
    part.save(tmp_path / "altered.keras")
    np.save(tmp_path / "features.npy", features)
    files = ["part.keras", "altered.keras"]
    subprocess.run([sys.executable, "-c", ANSWERS, *files], check=True, cwd=tmp_path)
    part, altered = (np.abs(np.load(tmp_path / f"{file}.npy") - answer).max() for file in files)
    assert part <= 1e-5 < altered


def test_global_settings_of_keras_do_not_change_the_part(all_settings):
    model, tap = attending(), Tap("tokens")
    features, answer = at_tap(model, tap)
    with all_settings():
        part = answering_part(model, tap)
    assert {layer.dtype for layer in part.layers} == {"float32"}
    assert answers_alike(part, features, answer)


def gradient(part, features):
    """Of the sum of squared answers."""
    features = tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = tf.reduce_sum(part(features) ** 2)
    return tape.gradient(loss, features).numpy()


def test_answer_tells_the_features_their_gradient():
    model, tap = over_backbone(residual(include_top=False)), Tap("block2")
    part = answering_part(model, tap)
    features, _ = at_tap(model, tap)
    slope = gradient(part, features)
    step = 1e-2 * slope / np.linalg.norm(slope)
    ahead, behind = (np.sum(np.square(part(features + s), dtype="float64")) for s in (step, -step))
    assert (ahead - behind) / 2e-2 == pytest.approx(np.linalg.norm(slope), rel=1e-2)
    assert (np.abs(slope).reshape(len(slope), -1).max(axis=1) > 1e-4).all()
    logits = model.get_layer("logits")
    logits.kernel.assign(logits.kernel * 0.0)
    assert np.abs(gradient(part, features)).max() == 0.0

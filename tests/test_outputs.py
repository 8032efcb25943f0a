"""Whatever a classifier ends in becomes logits."""

import keras
import numpy as np
import pytest
import scipy.special
from keras import ops

from keras_amalgam.outputs import to_logits

IMAGES = np.random.default_rng(0).normal(size=(5, 6, 6, 1)).astype("float32")


def in_a_nested_model(x, activation):
    inputs = keras.Input((8,))
    return keras.Model(inputs, keras.layers.Dense(4, activation=activation)(inputs))(x)


def in_a_lambda_layer(x, activation):
    function = {"softmax": ops.softmax, "sigmoid": ops.sigmoid}[activation]
    return keras.layers.Lambda(function, output_shape=(4,))(keras.layers.Dense(4)(x))


ENDS = {
    "softmax layer": lambda x, a: keras.layers.Softmax()(keras.layers.Dense(4)(x)),
    "activation in the layer": lambda x, a: keras.layers.Dense(4, activation=a)(x),
    "activation layer": lambda x, a: keras.layers.Activation(a)(keras.layers.Dense(4)(x)),
    "operation": lambda x, a: getattr(ops, a)(keras.layers.Dense(4)(x)),
    "nested model": in_a_nested_model,
    "lambda layer": in_a_lambda_layer,
}


def classifier(end, activation="softmax"):
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(8, activation="relu")(x)
    return keras.Model(inputs, end(x, activation), name="classifier")


def sharpened(model):
    """Weights far from zero, so that some probabilities are close to one and some to zero."""
    model.set_weights([3 * weight + 0.1 for weight in model.get_weights()])
    return model


@pytest.mark.parametrize("outputs", ["auto", "probabilities"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_softmax_of_the_logits_is_the_models_probability(end, outputs):
    model = sharpened(classifier(end))
    logits = np.asarray(to_logits(model, outputs, "It")(IMAGES))
    np.testing.assert_allclose(scipy.special.softmax(logits, -1), model(IMAGES), atol=2e-7)
    assert np.abs(logits).max() > 1


@pytest.mark.parametrize("end", list(ENDS.values())[1:], ids=list(ENDS)[1:])
def test_sigmoid_of_the_logits_is_the_models_output(end):
    model = sharpened(classifier(end, "sigmoid"))
    logits = to_logits(model, "sigmoid", "It")(IMAGES)
    np.testing.assert_allclose(scipy.special.expit(logits), model(IMAGES), atol=2e-7)


@pytest.mark.parametrize("end", list(ENDS)[1:4])
def test_sigmoid_that_can_be_seen_needs_no_saying(end):
    model = sharpened(classifier(ENDS[end], "sigmoid"))
    logits = to_logits(model, "auto", "It")(IMAGES)
    np.testing.assert_allclose(scipy.special.expit(logits), model(IMAGES), atol=2e-7)


@pytest.mark.parametrize("end", list(ENDS)[:4])
def test_stripped_softmax_gives_the_very_logits_also_where_probabilities_underflow(end):
    model = classifier(ENDS[end])
    model.set_weights([100 * weight for weight in model.get_weights()])
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)][-1]
    hidden = keras.Model(model.input, dense.input)(IMAGES)
    expected = hidden @ dense.kernel + dense.bias
    np.testing.assert_allclose(to_logits(model, "auto", "It")(IMAGES), expected, rtol=1e-4)
    assert np.asarray(model(IMAGES)).min() < 1e-30


@pytest.mark.parametrize("outputs", ["auto", "logits"])
def test_logits_stay_as_they_are(outputs):
    model = classifier(lambda x, a: keras.layers.Dense(4)(x))
    np.testing.assert_array_equal(to_logits(model, outputs, "It")(IMAGES), model(IMAGES))


def test_sequential_model_loses_its_softmax():
    layers = [
        keras.Input((6, 6, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
        keras.layers.Softmax(),
    ]
    model = keras.Sequential(layers)
    logits = to_logits(model, "auto", "It")(IMAGES)
    np.testing.assert_array_equal(logits, keras.Sequential(layers[:-1])(IMAGES))


@pytest.mark.parametrize(
    ("activation", "least", "most"), [("softmax", -85.2, 0), ("sigmoid", -85.2, 16.1)]
)
def test_hidden_activation_that_underflows_gives_finite_logits(activation, least, most):
    model = classifier(ENDS["lambda layer"], activation)
    model.set_weights([1000 * weight for weight in model.get_weights()])
    said = {"softmax": "probabilities"}.get(activation, activation)
    logits = np.asarray(to_logits(model, said, "It")(IMAGES))
    assert (logits.min(), logits.max()) == pytest.approx((least, most), abs=0.1)


def test_half_precision_probabilities_that_underflow_are_not_taken_for_much_smaller_ones():
    model = classifier(ENDS["lambda layer"])
    model.set_weights([1000 * weight for weight in model.get_weights()])
    halved = keras.Model(model.input, ops.cast(model.output, "float16"))
    logits = np.asarray(to_logits(halved, "probabilities", "It")(IMAGES))
    assert (logits.dtype, logits.min()) == (np.float32, pytest.approx(np.log(1e-7)))


def test_original_model_is_untouched():
    model = classifier(ENDS["activation in the layer"])
    before, config = np.asarray(model(IMAGES)), model.get_config()
    weights = model.get_weights()
    to_logits(model, "auto", "It")
    np.testing.assert_array_equal(model(IMAGES), before)
    assert model.get_config() == config
    assert model.layers[-1].activation is keras.activations.softmax
    for now, then in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    ("end", "activation", "said", "are"),
    [
        ("softmax layer", "softmax", "logits", "probabilities"),
        ("nested model", "softmax", "logits", "probabilities"),
        ("activation in the layer", "sigmoid", "logits", "sigmoid"),
        ("softmax layer", "softmax", "sigmoid", "probabilities"),
        ("nested model", "softmax", "sigmoid", "probabilities"),
        ("nested model", "linear", "sigmoid", "logits"),
        ("nested model", "linear", "probabilities", "logits"),
        ("nested model", "sigmoid", "probabilities", "either sigmoids or small logits"),
    ],
)
def test_outputs_said_to_be_what_they_are_not_are_refused(end, activation, said, are):
    model = classifier(ENDS[end], activation)
    with pytest.raises(ValueError, match=f"Teacher 'a' is said to return {said}, but .* {are}."):
        to_logits(model, said, "Teacher 'a'")


def test_hidden_sigmoids_must_be_named():
    with pytest.raises(ValueError, match="independent sigmoids from small logits"):
        to_logits(classifier(ENDS["nested model"], "sigmoid"), "auto", "It")


def test_untrained_head_of_zeros_counts_as_logits():
    model = classifier(lambda x, a: keras.layers.Dense(4, kernel_initializer="zeros")(x))
    assert to_logits(model, "auto", "It") is model


def test_two_outputs_and_unknown_kinds_are_refused():
    model = classifier(ENDS["softmax layer"])
    two = keras.Model(model.input, [model.output, model.layers[1].output])
    with pytest.raises(ValueError, match=r"one output. Received: 2 outputs.*model.output\[0\]"):
        to_logits(two, "auto", "It")
    named = keras.Model(model.input, dict(zip(("z", "a"), two.outputs, strict=True)))
    with pytest.raises(ValueError, match=r"outputs, \['z', 'a'\]. Choose one: `output=`.*\['z'\]"):
        to_logits(named, "auto", "It")
    with pytest.raises(ValueError, match="Received: 'prob'"):
        to_logits(model, "prob", "It")


def test_quantized_probabilities_must_be_named():
    """Rounded each by itself to eight bits, they do not sum to one."""
    inputs = keras.Input((6, 6, 1))
    exact = classifier(ENDS["softmax layer"])(inputs)
    model = keras.Model(inputs, ops.round(exact * 64) / 64)
    with pytest.raises(ValueError, match="quantized probabilities. Say outputs='probabilities' or"):
        to_logits(model, "auto", "It")
    logits = np.asarray(to_logits(model, "probabilities", "It")(IMAGES))
    np.testing.assert_allclose(np.exp(logits), model(IMAGES), atol=1e-6)

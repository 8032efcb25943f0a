"""Whatever a classifier ends in becomes logits."""

import keras
import numpy as np
import pytest
import scipy.special
from keras import ops

from keras_amalgam.models import outputs

IMAGES = np.random.default_rng(0).normal(size=(5, 6, 6, 1)).astype("float32")


def logits_of(model, said, owner="It"):
    return outputs.to_logits(model, outputs.kind_of(model, said, owner))


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


@pytest.mark.matrix(keep=4)
@pytest.mark.parametrize("said", ["auto", "probabilities"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_softmax_of_the_logits_is_the_models_probability(end, said):
    model = sharpened(classifier(end))
    logits = np.asarray(logits_of(model, said)(IMAGES))
    np.testing.assert_allclose(scipy.special.softmax(logits, -1), model(IMAGES), atol=2e-7)
    assert np.abs(logits).max() > 1


@pytest.mark.parametrize("end", list(ENDS.values())[1:], ids=list(ENDS)[1:])
def test_sigmoid_of_the_logits_is_the_models_output(end):
    model = sharpened(classifier(end, "sigmoid"))
    logits = logits_of(model, "sigmoid")(IMAGES)
    np.testing.assert_allclose(scipy.special.expit(logits), model(IMAGES), atol=2e-7)


@pytest.mark.parametrize("end", list(ENDS)[1:5])
def test_several_sigmoids_are_refused_as_a_multi_label_head_unless_said_to_be_classes(end):
    model = sharpened(classifier(ENDS[end], "sigmoid"))
    seem = "4 independent sigmoids: a multi-label head, several labels can hold at once"
    with pytest.raises(ValueError, match=f"It has outputs that seem to be {seem}") as refused:
        logits_of(model, "auto")
    assert str(refused.value).endswith(
        "Say outputs='sigmoid' if exactly one class holds on every image."
    )
    logits = logits_of(model, "sigmoid")(IMAGES)
    np.testing.assert_allclose(scipy.special.expit(logits), model(IMAGES), atol=2e-7)


@pytest.mark.parametrize(
    ("activation", "seem", "may_be"),
    [
        ("hard_sigmoid", "4 independent hard sigmoids: a multi-label head", "sigmoid"),
        ("log_sigmoid", "logarithms of 4 independent sigmoids: a multi-label head", "logits"),
        ("tanh", "4 numbers in -1..1, and no logits", "logits"),
        ("softsign", "4 numbers in -1..1, and no logits", "logits"),
    ],
)
@pytest.mark.parametrize("end", ["activation in the layer", "activation layer", "operation"])
def test_other_activations_that_leave_no_logits_are_refused_unless_vouched_for(
    end, activation, seem, may_be
):
    model = classifier(ENDS[end], activation)
    with pytest.raises(ValueError, match=f"seem to be .*{seem}.* Say outputs='{may_be}' if"):
        logits_of(model, "auto")
    assert logits_of(model, may_be).output.shape == (None, 4)


def test_softmax_over_the_channels_of_a_flattened_map_is_not_taken_for_a_classifiers():
    model = classifier(
        lambda x, _: keras.layers.Flatten()(keras.layers.Softmax()(keras.layers.Reshape((4, 2))(x)))
    )
    assert np.asarray(model(IMAGES)).sum(-1) == pytest.approx(4)
    with pytest.raises(ValueError, match="8 independent sigmoids .*, or small logits"):
        logits_of(model, "auto")


@pytest.mark.parametrize("activation", [None, "relu", "log_softmax", "leaky_relu", "softplus"])
def test_heads_that_may_be_logits_are_taken_for_them(activation):
    model = sharpened(classifier(ENDS["activation in the layer"], activation))
    np.testing.assert_array_equal(logits_of(model, "auto")(IMAGES), model(IMAGES))


@pytest.mark.parametrize("seen", [False, True])
def test_embedding_is_refused_by_its_length(seen):
    """As face recognition ends, seen by its layer or by its numbers alone."""

    def unit(x, _):
        x = keras.layers.Dense(4)(x)
        if seen:
            return keras.layers.UnitNormalization()(x)
        return x / ops.sqrt(ops.sum(x * x, axis=-1, keepdims=True))

    model = classifier(unit)
    with pytest.raises(ValueError, match="an embedding, as they are vectors of length one"):
        logits_of(model, "auto")
    np.testing.assert_array_equal(logits_of(model, "logits")(IMAGES), model(IMAGES))


@pytest.mark.parametrize("as_float", [False, True])
def test_ids_of_the_likeliest_classes_are_refused(as_float):
    def likeliest(x, _):
        ids = ops.top_k(keras.layers.Dense(8)(x), 4)[1]
        return ops.cast(ids, "float32") if as_float else ids

    model = classifier(likeliest)
    with pytest.raises(ValueError, match="4 whole numbers, such as the ids of the likeliest"):
        logits_of(model, "auto")


def test_logits_too_large_for_a_fraction_are_no_ids():
    model = classifier(ENDS["activation in the layer"], "relu")
    model.set_weights([abs(1e12 * weight) for weight in model.get_weights()])
    model = keras.Model(model.input, ops.abs(model.output))
    assert (np.asarray(model(IMAGES)) % 1 == 0).all()
    assert outputs.kind_of(model, "auto", "It") == "logits"


def test_saturated_softmax_is_no_embedding_though_its_answers_are_of_length_one():
    def nearly_saturated(x, _):
        scores = 40 * ops.tanh(1e4 * keras.layers.Dense(4)(x))
        return keras.layers.Lambda(ops.softmax, output_shape=(4,))(scores)

    model = classifier(nearly_saturated)
    assert outputs.kind_of(model, "auto", "It") == "probabilities"


def test_softmax_that_leaves_zeros_and_ones_alone_must_be_named():
    """It cannot be told from the ids of two classes, or from an answer that is one-hot."""
    model = classifier(ENDS["lambda layer"])
    model.set_weights([1e4 * weight for weight in model.get_weights()])
    assert set(np.unique(model(IMAGES))) == {0.0, 1.0}
    with pytest.raises(ValueError, match="4 whole numbers, .*outputs='probabilities' if"):
        outputs.kind_of(model, "auto", "It")
    assert outputs.kind_of(model, "probabilities", "It") == "probabilities"


@pytest.mark.parametrize(
    "end",
    [
        lambda x: ops.top_k(keras.layers.Dense(2)(x), 2)[1],
        lambda x: ops.cast(ops.argsort(keras.layers.Dense(2)(x)), "float32"),
        lambda x: ops.one_hot(ops.argmax(keras.layers.Dense(4)(x), axis=-1), 4),
        lambda x: ops.top_k(keras.layers.Dense(9)(x), 3)[1] - 1,
        lambda x: ops.cast(ops.round(10 * keras.layers.Dense(4)(x)), "int32"),
    ],
    ids=["ids of two", "order of two", "one-hot", "ids from -1", "rounded"],
)
def test_whole_numbers_are_refused_whatever_they_sum_to(end):
    model = classifier(lambda x, _: end(x))
    with pytest.raises(ValueError, match="whole numbers, such as the ids of the likeliest"):
        logits_of(model, "auto")
    logits = logits_of(model, "logits")(IMAGES)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    np.testing.assert_array_equal(logits, ops.cast(model(IMAGES), "float32"))


def test_percentages_are_refused_by_their_sum():
    model = classifier(lambda x, _: 100 * keras.layers.Dense(4, activation="softmax")(x))
    with pytest.raises(ValueError, match="4 numbers that always sum to the same, such as perc"):
        logits_of(model, "auto")
    constant = classifier(lambda x, _: keras.layers.Dense(4, "relu", name="head")(x))
    constant.get_layer("head").set_weights([np.zeros((8, 4)), np.arange(4) + 0.5])
    assert outputs.kind_of(constant, "auto", "It") == "logits"  # As before its training.


def test_two_numbers_on_a_circle_are_an_embedding():
    def on_a_circle(x, _):
        x = keras.layers.Dense(2)(x)
        return x / ops.sqrt(ops.sum(x * x, axis=-1, keepdims=True))

    with pytest.raises(ValueError, match="an embedding"):
        logits_of(classifier(on_a_circle), "auto")


@pytest.mark.parametrize("shared", [keras.layers.Softmax, lambda: keras.layers.Dense(4, "softmax")])
def test_softmax_that_is_used_before_the_end_too_stays_there(shared):
    """A gate by the layer that also ends the network."""
    layer = shared()

    def gated(x, _):
        gate = layer(keras.layers.Dense(4)(x))
        return layer(gate * keras.layers.Dense(4)(x))

    model = sharpened(classifier(gated))
    logits = np.asarray(logits_of(model, "auto")(IMAGES))
    np.testing.assert_allclose(scipy.special.softmax(logits, -1), model(IMAGES), atol=2e-6)
    assert np.ptp(logits) > 1


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis 1")
def test_softmax_along_another_axis_is_no_classifiers():
    for end in (
        lambda x, _: ops.softmax(keras.layers.Dense(4)(x), axis=0),
        lambda x, _: keras.layers.Softmax(axis=1)(
            keras.layers.Reshape((1, 1, 4))(keras.layers.Dense(4)(x))
        ),
    ):
        with pytest.raises(ValueError, match="independent sigmoids|whole numbers"):
            logits_of(classifier(end), "auto")


def test_softmax_inside_of_a_recurrent_layer_is_not_its_output():
    def recurrent(x, _):
        return keras.layers.LSTM(4, activation="softmax")(keras.layers.Reshape((2, 4))(x))

    assert outputs.final_activation(classifier(recurrent).output) is None


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (lambda: keras.layers.Conv2D(4, 3), r"a map, such as a mask, .*\(None, 4, 4, 4\)"),
        (lambda: keras.layers.Reshape((9, 4)), r"rows of numbers, such as boxes, .*\(None, 9, 4\)"),
        (lambda: keras.layers.Reshape((3, 3, 2, 2)), r"a tensor of 5 axes, .*\(None, 3, 3, 2, 2\)"),
    ],
    ids=["map", "rows", "tensor"],
)
@pytest.mark.parametrize("said", outputs.KINDS)
def test_what_is_no_vector_is_refused_whatever_is_said(end, says, said):
    image = keras.Input((6, 6, 1))
    model = keras.Model(image, end()(image))
    with pytest.raises(ValueError, match=f"It returns {says}"):
        logits_of(model, said)


@pytest.mark.parametrize("end", list(ENDS)[:4])
def test_stripped_softmax_gives_the_very_logits_also_where_probabilities_underflow(end):
    model = classifier(ENDS[end])
    model.set_weights([100 * weight for weight in model.get_weights()])
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)][-1]
    hidden = keras.Model(model.input, dense.input)(IMAGES)
    expected = hidden @ dense.kernel + dense.bias
    np.testing.assert_allclose(logits_of(model, "auto")(IMAGES), expected, rtol=1e-4)
    assert np.asarray(model(IMAGES)).min() < 1e-30


@pytest.mark.parametrize("said", ["auto", "logits"])
def test_logits_stay_as_they_are(said):
    model = classifier(lambda x, a: keras.layers.Dense(4)(x))
    np.testing.assert_array_equal(logits_of(model, said)(IMAGES), model(IMAGES))


def test_sequential_model_loses_its_softmax():
    layers = [
        keras.Input((6, 6, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
        keras.layers.Softmax(),
    ]
    model = keras.Sequential(layers)
    logits = logits_of(model, "auto")(IMAGES)
    np.testing.assert_array_equal(logits, keras.Sequential(layers[:-1])(IMAGES))


@pytest.mark.parametrize(
    ("activation", "least", "most"), [("softmax", -85.2, 0), ("sigmoid", -85.2, 16.1)]
)
def test_hidden_activation_that_underflows_gives_finite_logits(activation, least, most):
    model = classifier(ENDS["lambda layer"], activation)
    model.set_weights([1000 * weight for weight in model.get_weights()])
    said = {"softmax": "probabilities"}.get(activation, activation)
    logits = np.asarray(logits_of(model, said)(IMAGES))
    assert (logits.min(), logits.max()) == pytest.approx((least, most), abs=0.1)


def test_half_precision_probabilities_that_underflow_are_not_taken_for_much_smaller_ones():
    model = classifier(ENDS["lambda layer"])
    model.set_weights([1000 * weight for weight in model.get_weights()])
    halved = keras.Model(model.input, ops.cast(model.output, "float16"))
    logits = np.asarray(logits_of(halved, "probabilities")(IMAGES))
    assert (logits.dtype, logits.min()) == (np.float32, pytest.approx(np.log(1e-7)))


def test_original_model_is_untouched():
    model = classifier(ENDS["activation in the layer"])
    before, config = np.asarray(model(IMAGES)), model.get_config()
    weights = model.get_weights()
    logits_of(model, "auto")
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
        ("nested model", "sigmoid", "probabilities", "sigmoid"),
        ("lambda layer", "sigmoid", "probabilities", "either sigmoids or small logits"),
    ],
)
def test_outputs_said_to_be_what_they_are_not_are_refused(end, activation, said, are):
    model = classifier(ENDS[end], activation)
    with pytest.raises(ValueError, match=f"Teacher 'a' is said to return {said}, but .* {are}."):
        logits_of(model, said, "Teacher 'a'")


def test_hidden_sigmoids_must_be_named():
    seem = r"4 independent sigmoids \(a multi-label head, .*\), or small logits"
    say = "Say outputs='sigmoid' if exactly one class holds on every image, or outputs='logits'"
    with pytest.raises(ValueError, match=f"seem to be {seem}.*{say}"):
        logits_of(classifier(ENDS["lambda layer"], "sigmoid"), "auto")


def test_untrained_head_of_zeros_counts_as_logits():
    model = classifier(lambda x, a: keras.layers.Dense(4, kernel_initializer="zeros")(x))
    assert logits_of(model, "auto") is model


def test_two_outputs_and_unknown_kinds_are_refused():
    model = classifier(ENDS["softmax layer"])
    two = keras.Model(model.input, [model.output, model.layers[1].output])
    with pytest.raises(ValueError, match=r"one output. Received: 2 outputs.*model.output\[0\]"):
        logits_of(two, "auto")
    named = keras.Model(model.input, dict(zip(("z", "a"), two.outputs, strict=True)))
    with pytest.raises(ValueError, match=r"outputs, \['z', 'a'\]. Choose one: `output=`.*\['z'\]"):
        logits_of(named, "auto")
    with pytest.raises(ValueError, match="Received: 'prob'"):
        logits_of(model, "prob")


def test_quantized_probabilities_must_be_named():
    """Rounded each by itself to eight bits, they do not sum to one."""
    inputs = keras.Input((6, 6, 1))
    exact = classifier(ENDS["softmax layer"])(inputs)
    model = keras.Model(inputs, ops.round(exact * 64) / 64)
    with pytest.raises(
        ValueError, match="quantized probabilities, .*Say outputs='probabilities' if"
    ):
        logits_of(model, "auto")
    logits = np.asarray(logits_of(model, "probabilities")(IMAGES))
    np.testing.assert_allclose(np.exp(logits), model(IMAGES), atol=1e-6)

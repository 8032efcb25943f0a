"""What a classifier returns: logits, probabilities, or independent sigmoids; made logits."""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_amalgam.models.heads import (
    EMBEDDING,
    ROUGH,
    SHARES,
    UNCLEAR,
    WHOLE_NUMBERS,
    Kind,
    may_be,
    named_by,
    num_logits,
    other_than_vector,
    recognised,
)
from keras_amalgam.models.taps import as_functional

Outputs = Literal["auto", "logits", "probabilities", "sigmoid"]
KINDS = ("auto", "logits", "probabilities", "sigmoid")

# Smaller probabilities are zero by underflow, and their logarithm would be minus infinity.
MIN_PROBABILITY = {"float16": 1e-7}
MIN_FLOAT32_PROBABILITY = 1e-37
# What is left of a sigmoid to one cannot be told below this: float32 has no number between.
MIN_COMPLEMENT = 1e-7
# What quantized probabilities, rounded each by itself, sum to.
ROUGH_SUMS = (0.5, 1.1)
# More than any list of classes has, and far less than the whole numbers that float32 can tell.
LARGEST_ID = 1e6
# Layers that do nothing behind their activation.
_ENDING_IN_ACTIVATION = (
    *(keras.layers.Activation, keras.layers.Dense, keras.layers.EinsumDense),
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv2DTranspose),
    *(keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D),
)
# Layers and operations that show a tensor's numbers in another shape or type.
_VIEWS = {"Cast", "Dropout", "Flatten", "Identity", "Permute", "Reshape", "Squeeze", "Transpose"}


def kind_of(model: keras.Model, outputs: Outputs, owner: str) -> Kind:
    """What a classifier's output is, found out or as said, where it is one that can teach.

    Args:
        model: A functional or sequential model with one output `(batch, classes)`, or a map of it,
            1×1.
        outputs: What the model is said to return; `"auto"` looks at its last operation and at what
            it answers to random images.
        owner: Whom to name in errors, such as `"Teacher 'birds'"`.

    Raises:
        ValueError: If `outputs` is unknown, contradicts what the model returns, or is `"auto"` for
            a model whose output is no logits and no probabilities: several independent sigmoids, a
            map, an embedding.
    """
    if outputs not in KINDS:
        raise ValueError(f"`outputs` must be one of {KINDS}. Received: {outputs!r}.")
    model = as_functional(model)
    _check_output(model, owner)
    looks_like = final_activation(innermost(model.output)) or _probe(_as_vectors(model))
    if outputs == "auto":
        return recognised(looks_like, num_logits(model.output.shape), owner)
    if outputs not in may_be(looks_like):
        raise ValueError(
            f"{owner} is said to return {outputs}, but its outputs are {looks_like}. Received: "
            f"outputs={outputs!r}. Say outputs='auto', which turns what they are into logits or "
            "says what they lack."
        )
    return outputs


def to_logits(model: keras.Model, kind: Kind) -> keras.Model:
    """The model with logits `(batch, classes)` as its output, sharing layers and weights.

    Maps of 1×1, as a convolutional head leaves them, become vectors.

    A final softmax or sigmoid is left out where it is a layer or a layer's activation. Where it
    cannot be seen, the logarithm of the probabilities is taken, or the log-odds of the sigmoids.

    Args:
        model: A functional or sequential model.
        kind: What it returns, from `kind_of`.
    """
    model = as_functional(model)
    if kind == "logits":
        return _as_floats(_as_vectors(model))
    if final_activation(model.output) == kind:
        return _as_vectors(_without_activation(model))
    return keras.Model(model.input, _inverse(kind, _as_vectors(model).output), name=model.name)


def _as_vectors(model: keras.Model) -> keras.Model:
    """The model with a map of 1×1 flattened; any other as it is."""
    number = num_logits(model.output.shape)
    if len(model.output.shape) != 4 or number is None:
        return model
    flat = keras.layers.Reshape((number,), name="answer_of_1x1")(model.output)
    return keras.Model(model.input, flat, name=model.name)


def _as_floats(model: keras.Model) -> keras.Model:
    """The model with whole numbers that are said to be logits as floats; any other as it is."""
    if _is_float(model.output):
        return model
    return keras.Model(model.input, ops.cast(model.output, "float32"), name=model.name)


def _is_float(tensor: keras.KerasTensor) -> bool:
    return "float" in str(tensor.dtype)


def _check_output(model: keras.Model, owner: str) -> None:
    """Refuse several outputs, and one that is no vector."""
    if not isinstance(model.output, keras.KerasTensor):
        named = isinstance(model.output, dict)
        which = list(model.output) if named else [tuple(t.shape) for t in model.outputs]
        raise ValueError(
            f"{owner} must have one output. Received: {len(model.outputs)} outputs, {which}. "
            f"Choose one: {'`output=` of from_onnx and its like, or ' * named}"
            f"keras.Model(model.input, model.output[{(which[0] if named else 0)!r}])."
        )
    shape = tuple(model.output.shape)
    if other := other_than_vector(shape):
        raise ValueError(
            f"{owner} returns {other[0]}, {other[1]}, and not logits. Received: an output of shape "
            f"{shape}. Expected: one number per class, (None, classes), or a map of 1×1 of them. "
            "Take a network that ends in a classifier, or of several outputs that one."
        )


def _inverse(kind: str, output: Any) -> Any:
    least = MIN_PROBABILITY.get(output.dtype, MIN_FLOAT32_PROBABILITY)
    output = ops.cast(output, "float32")
    logarithm = ops.log(ops.maximum(output, least))
    if kind == "probabilities":
        return logarithm
    return logarithm - ops.log(ops.maximum(1.0 - output, MIN_COMPLEMENT))


def final_activation(output: keras.KerasTensor) -> str | None:
    """What the last operation makes of the logits, if it says so itself.

    Args:
        output: An output tensor of a functional model.

    Returns:
        `"probabilities"`, `"sigmoid"`, the words for another activation that leaves no logits, or
        `None` for anything else.
    """
    return named_by(ends_in(output))


def ends_in(output: keras.KerasTensor) -> str:
    """The name of the activation, or of the operation, that an output ends in.

    Args:
        output: An output tensor of a functional model.

    Returns:
        Such as `"softmax"`, `"linear"` or `"TopK"`; empty where the operation does not go along the
        axis of the classes.
    """
    last = output._keras_history.operation
    # By their class, as the operations behind ops.softmax and ops.sigmoid are not public.
    operation = type(last).__name__
    over_classes = getattr(last, "axis", -1) in (-1, len(output.shape) - 1)
    if "softmax" in operation.lower() and not over_classes:
        return ""
    activation = getattr(last, "activation", None)
    name = getattr(activation, "__name__", "")
    # A function of the user's own may bear the same name, and a layer may do more behind it.
    is_the_end = any(type(last).call is layer.call for layer in _ENDING_IN_ACTIVATION)
    known = is_the_end and getattr(keras.activations, name, None) is activation
    return name if known else operation


def innermost(output: keras.KerasTensor) -> keras.KerasTensor:
    """The tensor that an output only shows, inside of nested models or as a map of 1×1.

    Args:
        output: An output tensor of a functional model.
    """
    operation, node, place = output._keras_history
    if isinstance(operation, keras.Model) and getattr(operation, "outputs", None):
        return innermost(operation.outputs[place])
    if type(operation).__name__ in _VIEWS and _is_float(output):
        shown = operation._inbound_nodes[node].arguments.keras_tensors[0]
        # Flattened maps are another thing: a softmax over their channels does not sum to one.
        if num_logits(shown.shape) == num_logits(output.shape) is not None:
            return innermost(shown)
    return output


def _without_activation(model: keras.Model) -> keras.Model:
    """The model up to the input of its last activation, which may be inside its last layer.

    That call of the layer alone is left out: it may be used in the middle of the network too.
    """
    last, place, _ = model.output._keras_history
    given = last._inbound_nodes[place].arguments
    if isinstance(last, keras.layers.Activation) or not hasattr(last, "activation"):
        return keras.Model(model.input, given.keras_tensors[0], name=model.name)
    uses = sum(node.operation is last for nodes in model._nodes_by_depth.values() for node in nodes)
    config = last.get_config() | {"activation": "linear"}
    bare = type(last).from_config(config | {"name": last.name + "_logits" * (uses > 1)})
    result = bare(*given.args, **given.kwargs)
    bare.set_weights(last.get_weights())
    return keras.Model(model.input, result, name=model.name)


def _probe(model: keras.Model) -> str:
    """What the answers to random inputs look like."""
    if not _is_float(model.output):
        return WHOLE_NUMBERS
    return _looks_like(_answers_to_noise(model), bool(model.weights))


def _answers_to_noise(model: keras.Model) -> np.ndarray:
    """One row for each of eight inputs, from faint to glaring."""
    height, width, channels = (side or 64 for side in model.input_shape[1:])
    noise = np.random.default_rng(0).normal(size=(8, height, width, channels))
    noise *= np.logspace(-1, 2, len(noise))[:, None, None, None]
    answers = model(noise.astype("float32"), training=False)
    return ops.convert_to_numpy(ops.cast(answers, "float32")).astype("float64")


def _looks_like(answers: np.ndarray, has_weights: bool) -> str:
    sums, lengths = answers.sum(axis=-1), np.linalg.norm(answers, axis=-1)
    least, most = answers.min(), answers.max()
    # Logits of a quantized network may be whole as well, but hardly without a negative one; very
    # large numbers have no room for a fraction.
    if least >= 0 and 0 < most < LARGEST_ID and np.array_equal(answers, answers.round()):
        return WHOLE_NUMBERS
    in_range = least >= 0 and most <= 1 + 1e-4
    if in_range and np.abs(sums - 1).max() < 1e-3:
        return "probabilities"
    if np.abs(lengths - 1).max() < 1e-3:
        return EMBEDDING
    if not in_range:
        # A head of zeros, as before its training, answers with its bias alone.
        varies = answers.std(axis=0).max() > 1e-6 * most
        return SHARES if varies and least >= 0 and np.ptp(sums) < 1e-3 * sums.mean() else "logits"
    if ROUGH_SUMS[0] < sums.min() and sums.max() < ROUGH_SUMS[1]:
        return ROUGH
    # Zeros say nothing. Quantized sigmoids in a runtime, which has no weights here, are zero as
    # well where a network finds nothing in noise.
    return "logits" if most == 0 and has_weights else UNCLEAR

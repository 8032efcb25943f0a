"""What a classifier returns: logits, probabilities, or independent sigmoids; made logits."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_amalgam.taps import as_functional

Kind = Literal["logits", "probabilities", "sigmoid"]
Outputs = Literal["auto", "logits", "probabilities", "sigmoid"]
KINDS = ("auto", "logits", "probabilities", "sigmoid")

# Smaller probabilities are zero by underflow, and their logarithm would be minus infinity.
MIN_PROBABILITY = {"float16": 1e-7}
MIN_FLOAT32_PROBABILITY = 1e-37
# What is left of a sigmoid to one cannot be told below this: float32 has no number between.
MIN_COMPLEMENT = 1e-7

# What answers in 0..1 that do not sum to one are taken for, unless the user says which they are.
UNCLEAR = "either sigmoids or small logits"
# Quantized probabilities are rounded each by itself; many small ones vanish.
ROUGH = "roughly probabilities, or sigmoids or small logits"
ROUGH_SUMS = (0.5, 1.1)
# What a linear head returns, which may as well be a regression's.
CANNOT_TELL = "logits or numbers, cannot tell"
EMBEDDING = "vectors of length one"
_BOUNDED = "numbers in -1..1"
# By the names of activations, of operators and of layers, in small letters without underscores.
_ACTIVATIONS = {
    "softmax": "probabilities",
    "sigmoid": "sigmoid",
    "logistic": "sigmoid",
    "hardsigmoid": "hard sigmoids",
    "logsigmoid": "logarithms of sigmoids",
    "tanh": _BOUNDED,
    "hardtanh": _BOUNDED,
    "softsign": _BOUNDED,
    "unitnormalization": EMBEDDING,
}
# What may be said of outputs that look like something, and then holds.
_MAY_BE: dict[str, tuple[Kind, ...]] = {
    "hard sigmoids": ("sigmoid",),
    "logarithms of sigmoids": ("logits",),
    _BOUNDED: ("logits",),
    EMBEDDING: ("logits",),
    UNCLEAR: ("sigmoid", "logits"),
    ROUGH: ("probabilities", "sigmoid", "logits"),
}
_LABELS = "a multi-label head, several labels can hold at once"
_SEEM_TO_BE = {
    "sigmoid": f"{{number}} independent sigmoids: {_LABELS}",
    "hard sigmoids": f"{{number}} independent hard sigmoids: {_LABELS}",
    "logarithms of sigmoids": f"the logarithms of {{number}} independent sigmoids: {_LABELS}",
    _BOUNDED: "{number} numbers in -1..1, and no logits",
    EMBEDDING: "an embedding, as they are vectors of length one, and no logits",
    UNCLEAR: f"{{number}} independent sigmoids ({_LABELS}), or small logits: they are in 0..1 and "
    "do not sum to one",
    ROUGH: f"quantized probabilities, {{number}} independent sigmoids ({_LABELS}), or small "
    "logits: they are in 0..1 and sum to about one",
}
_IF: dict[Kind, str] = {
    "sigmoid": "exactly one class holds on every image",
    "logits": "their softmax is the classes' probabilities",
    "probabilities": "they are quantized",
}
# Layers and operations that show a tensor's numbers in another shape.
_VIEWS = {"Dropout", "Flatten", "Identity", "Permute", "Reshape", "Squeeze", "Transpose"}
_OTHER_SHAPES = {
    3: ("rows of numbers", "such as boxes, landmarks, tokens or a mask"),
    4: ("a map", "such as a mask, a heat map or features"),
}


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
        return _recognised(looks_like, num_logits(model.output.shape), owner)
    if outputs not in _MAY_BE.get(looks_like, (looks_like,)):
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
        model: As in `kind_of`.
        kind: What it returns, from `kind_of`.
    """
    model = as_functional(model)
    if kind == "logits":
        return _as_vectors(model)
    if final_activation(model.output) == kind:
        return _as_vectors(_without_activation(model))
    return keras.Model(model.input, _inverse(kind, _as_vectors(model).output), name=model.name)


def seems_to_be(operator: str, shape: Sequence[int | None]) -> str:
    """What an output is by its last operator and its shape, in words for people.

    Args:
        operator: An activation, an operator or a layer: `"Softmax"`, `"LOGISTIC"`, `"log_softmax"`.
        shape: Of the output, the batch first.

    Returns:
        Such as `"probabilities"`, `"4 independent sigmoids"`, `"a map, not logits"` or, as a linear
        head may be either, `CANNOT_TELL`; empty where there is no shape.
    """
    name = operator.lower().replace("_", "")
    if len(shape) < 2:
        return ""
    if other := _other_than_vector(shape):
        return f"{other[0]}, not logits"
    number = num_logits(shape)
    if name == "logsoftmax":
        return "logits"
    found = _ACTIVATIONS.get(name, CANNOT_TELL)
    if found == "sigmoid" and number != 1:
        return f"{number or 'several'} independent sigmoids"
    return found


def advice_on(words: str) -> tuple[str, Kind | None]:
    """Under which condition outputs can teach, and what must be said then.

    Args:
        words: From `seems_to_be`.

    Returns:
        A sentence and what `outputs` must be; an empty one and `None` where nothing is in doubt.
    """
    if words == CANNOT_TELL:
        return (
            "The output may be logits or numbers, as of a regression: only logits can teach.",
            None,
        )
    many_sigmoids = words.endswith(" independent sigmoids")
    kind: Kind | None = "sigmoid" if many_sigmoids else _MAY_BE.get(words, (None,))[0]
    if kind is None:
        return "", None
    return f"The output seems to be {words}: it can teach only if {_IF[kind]}.", kind


def num_logits(shape: Sequence[int | None]) -> int | None:
    """How many logits an answer has: `(batch, classes)`, or a map of 1×1 wherever its channels are.

    Args:
        shape: Of the answer, the batch first.

    Returns:
        The number, `None` where it is open or the shape is no answer's.
    """
    sizes = [size for size in shape[1:] if size != 1] or [1]
    return sizes[0] if len(shape) in (2, 4) and len(sizes) == 1 else None


def _as_vectors(model: keras.Model) -> keras.Model:
    """The model with a map of 1×1 flattened; any other as it is."""
    number = num_logits(model.output.shape)
    if len(model.output.shape) != 4 or number is None:
        return model
    flat = keras.layers.Reshape((number,), name="answer_of_1x1")(model.output)
    return keras.Model(model.input, flat, name=model.name)


def _other_than_vector(shape: Sequence[int | None]) -> tuple[str, str] | None:
    """What an output is that is no vector: a name, and what it may be; `None` for a vector."""
    if len(shape) == 2 or num_logits(shape) is not None:
        return None
    return _OTHER_SHAPES.get(len(shape), (f"a tensor of {len(shape)} axes", "no classifier's"))


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
    if other := _other_than_vector(shape):
        raise ValueError(
            f"{owner} returns {other[0]}, {other[1]}, and not logits. Received: an output of shape "
            f"{shape}. Expected: one number per class, (None, classes), or a map of 1×1 of them. "
            "Take a network that ends in a classifier, or of several outputs that one."
        )


def _recognised(looks_like: str, number: int | None, owner: str) -> Kind:
    """What `outputs="auto"` takes outputs for.

    Raises:
        ValueError: Saying what they seem to be, where that is not for us to decide.
    """
    possible = _MAY_BE.get(looks_like, (looks_like,))
    # What to do about a single number, the task says: it knows how many classes there are.
    if looks_like not in _SEEM_TO_BE or number == 1:
        return possible[0]
    raise ValueError(
        f"{owner} has outputs that seem to be "
        f"{_SEEM_TO_BE[looks_like].format(number=number or 'several')}. Received: outputs='auto'. "
        "Expected: a head of which exactly one class holds, as no other can teach. Say "
        f"{', or '.join(f'outputs={kind!r} if {_IF[kind]}' for kind in possible)}."
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
        output: Of a functional model.

    Returns:
        `"probabilities"`, `"sigmoid"`, the words for another activation that leaves no logits, or
        `None` for anything else.
    """
    last = output._keras_history.operation
    activation = getattr(last, "activation", None)
    name = getattr(activation, "__name__", "")
    # A function of the user's own may bear the same name.
    if activation is not None and getattr(keras.activations, name, None) is activation:
        return _ACTIVATIONS.get(name.replace("_", ""))
    # By name, as the operations behind ops.softmax and ops.sigmoid are no public classes.
    return _ACTIVATIONS.get(type(last).__name__.lower())


def innermost(output: keras.KerasTensor) -> keras.KerasTensor:
    """The tensor that an output only shows, inside of nested models or as a map of 1×1.

    Args:
        output: Of a functional model.
    """
    operation, node, place = output._keras_history
    if isinstance(operation, keras.Model) and getattr(operation, "outputs", None):
        return innermost(operation.outputs[place])
    if type(operation).__name__ in _VIEWS:
        shown = operation._inbound_nodes[node].arguments.keras_tensors[0]
        # Flattened maps are another thing: a softmax over their channels does not sum to one.
        if num_logits(shown.shape) == num_logits(output.shape) is not None:
            return innermost(shown)
    return output


def _without_activation(model: keras.Model) -> keras.Model:
    """The model up to the input of its last activation, which may be inside its last layer."""
    last = model.output._keras_history.operation

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation is not last:
            return operation(*args, **kwargs)
        if isinstance(operation, keras.layers.Activation) or not hasattr(operation, "activation"):
            return args[0]
        config = operation.get_config() | {"activation": "linear"}
        bare = type(operation).from_config(config)
        result = bare(*args, **kwargs)
        bare.set_weights(operation.get_weights())
        return result

    return keras.models.clone_model(model, clone_function=lambda op: op, call_function=call)


def _probe(model: keras.Model) -> str:
    """What the answers to random inputs, from faint to glaring, look like."""
    height, width, channels = (side or 64 for side in model.input_shape[1:])
    noise = np.random.default_rng(0).normal(size=(8, height, width, channels))
    noise *= np.logspace(-1, 2, len(noise))[:, None, None, None]
    answers = model(noise.astype("float32"), training=False)
    answers = ops.convert_to_numpy(ops.cast(answers, "float32")).astype("float64")
    sums, lengths = answers.sum(axis=-1), np.linalg.norm(answers, axis=-1)
    in_range = answers.min() >= 0 and answers.max() <= 1 + 1e-4
    if in_range and np.abs(sums - 1).max() < 1e-3:
        return "probabilities"
    if answers.shape[1] > 2 and np.abs(lengths - 1).max() < 1e-3:
        return EMBEDDING
    if not in_range:
        return "logits"
    if ROUGH_SUMS[0] < sums.min() and sums.max() < ROUGH_SUMS[1]:
        return ROUGH
    # A head of zeros, as before its training, says nothing. Quantized sigmoids in a runtime, which
    # has no weights here, are zero as well where a network finds nothing in noise.
    return "logits" if answers.max() == 0 and model.weights else UNCLEAR

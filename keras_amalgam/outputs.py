"""What a classifier returns: logits, probabilities, or independent sigmoids; made logits."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_amalgam.taps import as_functional

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
_MAY_BE = {UNCLEAR: ("logits", "sigmoid"), ROUGH: ("logits", "sigmoid", "probabilities")}


def to_logits(model: keras.Model, outputs: Outputs, owner: str) -> keras.Model:
    """The model with logits `(batch, classes)` as its output, sharing layers and weights.

    Maps of 1×1, as a convolutional head leaves them, become vectors.

    A final softmax or sigmoid is left out where it is a layer or a layer's activation. Where it
    cannot be seen, the logarithm of the probabilities is taken, or the log-odds of the sigmoids.

    Args:
        model: A functional or sequential model with one output `(batch, classes)`, or a map of it,
            1×1.
        outputs: What the model returns; `"auto"` looks at its last layer and at what it
            answers to random images.
        owner: Whom to name in errors, such as `"Teacher 'birds'"`.

    Raises:
        ValueError: If `outputs` is unknown, or contradicts what the model returns.
    """
    if outputs not in KINDS:
        raise ValueError(f"`outputs` must be one of {KINDS}. Received: {outputs!r}.")
    model = as_functional(model)
    if not isinstance(model.output, keras.KerasTensor):
        named = isinstance(model.output, dict)
        which = list(model.output) if named else [tuple(t.shape) for t in model.outputs]
        raise ValueError(
            f"{owner} must have one output. Received: {len(model.outputs)} outputs, {which}. "
            f"Choose one: {'`output=` of from_onnx and its like, or ' * named}"
            f"keras.Model(model.input, model.output[{(which[0] if named else 0)!r}])."
        )
    seen = final_activation(model.output)
    answer = _as_vectors(model)
    looks_like = seen or _probe(answer)
    kind = looks_like if outputs == "auto" else outputs
    _check_kind(outputs, looks_like, owner)
    if kind == "logits":
        return answer
    if seen is not None:
        return _as_vectors(_without_activation(model))
    return keras.Model(model.input, _inverse(kind, answer.output), name=model.name)


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


def _check_kind(said: str, looks_like: str, owner: str) -> None:
    possible = _MAY_BE.get(looks_like, (looks_like,))
    if said == "auto" and len(possible) > 1:
        raise ValueError(
            f"{owner} has outputs that are all in 0..1 without summing to one. Received: "
            "outputs='auto', which cannot tell independent sigmoids from small logits"
            f"{' and quantized probabilities' * (looks_like == ROUGH)}. Say "
            f"{' or '.join(f'outputs={kind!r}' for kind in reversed(possible))}."
        )
    if said not in ("auto", *possible):
        raise ValueError(
            f"{owner} is said to return {said}, but its outputs are {looks_like}. Received: "
            f"outputs={said!r}. Say outputs='auto', which turns what they are into logits."
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
        `"probabilities"`, `"sigmoid"`, or `None` for anything else.
    """
    last = output._keras_history.operation
    # By name, as the operations behind ops.softmax and ops.sigmoid are no public classes.
    seen = {"Softmax": "probabilities", "Sigmoid": "sigmoid"}.get(type(last).__name__)
    activation = getattr(last, "activation", None)
    if activation is keras.activations.softmax:
        return "probabilities"
    return "sigmoid" if activation is keras.activations.sigmoid else seen


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
    if answers.ndim != 2 or answers.min() < 0 or answers.max() > 1 + 1e-4:
        return "logits"
    sums = answers.sum(axis=-1)
    if np.abs(sums - 1).max() < 1e-3:
        return "probabilities"
    if ROUGH_SUMS[0] < sums.min() and sums.max() < ROUGH_SUMS[1]:
        return ROUGH
    # A head of zeros, as before its training, says nothing.
    return "logits" if answers.max() == 0 else UNCLEAR

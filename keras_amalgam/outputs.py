"""What a classifier returns: logits, probabilities, or independent sigmoids; made logits."""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_amalgam.taps import as_functional

Outputs = Literal["auto", "logits", "probabilities", "sigmoid"]
KINDS = ("auto", "logits", "probabilities", "sigmoid")

# Probabilities below this are rounding; their logarithm would be minus infinity.
MIN_PROBABILITY = 1e-7


def to_logits(model: keras.Model, outputs: Outputs, owner: str) -> keras.Model:
    """The model with logits as its output, sharing layers and weights.

    A final softmax or sigmoid is left out where it is a layer or a layer's activation. Where it
    cannot be seen, the logarithm of the probabilities is taken, or the log-odds of the sigmoids.

    Args:
        model: A functional or sequential model with one output `(batch, classes)`.
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
        raise ValueError(
            f"{owner} must have one output. Received: {len(model.outputs)} outputs. "
            "Choose one: keras.Model(model.input, model.outputs[0])."
        )
    seen = _activation(model)
    looks_like = seen or _probe(model)
    if outputs == "logits" and looks_like != "logits":
        raise ValueError(
            f"{owner} is said to return logits, but its outputs are {looks_like}. "
            "Say outputs='auto', which turns them into logits."
        )
    if outputs == "probabilities" and looks_like != "probabilities":
        raise ValueError(
            f"{owner} is said to return probabilities, but its outputs do not sum to one. "
            f"They look like {looks_like}. Say outputs='auto' or name what they are."
        )
    kind = looks_like if outputs == "auto" else outputs
    if kind == "logits":
        return model
    if seen is not None:
        return _without_activation(model)
    return keras.Model(model.input, _inverse(kind, model.output), name=model.name)


def _inverse(kind: str, output: Any) -> Any:
    if kind == "probabilities":
        return ops.log(ops.maximum(output, MIN_PROBABILITY))
    output = ops.clip(output, MIN_PROBABILITY, 1.0 - MIN_PROBABILITY)
    return ops.log(output) - ops.log(1.0 - output)


def _activation(model: keras.Model) -> str | None:
    """What the last operation makes of the logits, if it says so itself."""
    last = model.output._keras_history.operation
    if isinstance(last, keras.layers.Softmax):
        return "probabilities"
    activation = getattr(last, "activation", None)
    if activation is keras.activations.softmax:
        return "probabilities"
    return "sigmoid" if activation is keras.activations.sigmoid else None


def _without_activation(model: keras.Model) -> keras.Model:
    """The model up to the input of its last activation, which may be inside its last layer."""
    last = model.output._keras_history.operation

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation is not last:
            return operation(*args, **kwargs)
        if isinstance(operation, (keras.layers.Softmax, keras.layers.Activation)):
            return args[0]
        config = operation.get_config() | {"activation": "linear"}
        bare = type(operation).from_config(config)
        result = bare(*args, **kwargs)
        bare.set_weights(operation.get_weights())
        return result

    return keras.models.clone_model(model, clone_function=lambda op: op, call_function=call)


def _probe(model: keras.Model) -> str:
    """What the answers to a few random inputs look like."""
    height, width, channels = (side or 64 for side in model.input_shape[1:])
    noise = np.random.default_rng(0).normal(size=(4, height, width, channels)).astype("float32")
    answers = ops.convert_to_numpy(model(noise, training=False)).astype("float64")
    if answers.ndim != 2 or answers.min() < 0 or answers.max() > 1 + 1e-4:
        return "logits"
    sums_to_one = np.abs(answers.sum(axis=-1) - 1).max() < 1e-3
    return "probabilities" if sums_to_one else "logits"

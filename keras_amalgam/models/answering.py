"""The part of a model behind its tap: from features to the model's own answer."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import keras_amalgam.backend  # noqa: F401

import keras

from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.models.taps import Tap, as_features, with_taps

_Result = tuple[dict[int, Any], list[tuple[str, str]]]

# So many layers that can be tapped instead are named in an error.
_NAMED = 3


@keras_defaults()
def answering_part(model: keras.Model, tap: Tap) -> keras.Model:
    """The part of a model from its tap to its answer, as a model of its own.

    Whatever follows the tap belongs to it: pooling, dense layers, normalizations, whole blocks.
    Layers and weights are shared with `model`, which stays as it is.

    Args:
        model: A functional or sequential model.
        tap: The layer behind which the part begins, also inside nested models. Tokens are taken as
            the map that `as_features` makes of them, where that leaves none of them out.

    Returns:
        A model from features, as `as_features` gives them at the tap, of shape
        `(batch, height, width, channels)` or `(batch, channels)`, to what `model` returns.

    Raises:
        ValueError: If the features do not determine the answer: a layer behind the tap also reads
            something that does not come from it (both are named), the tap does not lead to the
            answer, or tokens were pooled or left out. Also as in `with_taps` and `as_features`.

    Example:
    ```python
    head = answering_part(teacher.model, teacher.tap)
    answer = head(features)
    ```
    """
    tapped = with_taps(model, [tap.layer])
    output = tapped.output["taps"][0]
    features = as_features(output, tap.tokens)
    taken = {operation.name for operation in tapped.operations}
    entrance = keras.Input(
        batch_shape=features.shape, dtype=features.dtype, name=_free("features", taken)
    )
    try:
        tensors, blocked = _computed(tapped, _as_tapped(entrance, output, tap, taken))
        answer = _answer(tapped, tensors, blocked)
    except _Undetermined as error:
        raise ValueError(
            f"The features at tap {tap.layer!r} do not determine the answer of model "
            f"{model.name!r}. Received: {error}. Expected: a tap that everything the answer is "
            f"computed from passes through. {_advice(tapped)}"
        ) from error
    return keras.Model(entrance, answer, name=f"{model.name}_answer")


class _Undetermined(Exception):
    """Says why features do not determine an answer."""


def _as_tapped(entrance: Any, output: Any, tap: Tap, taken: Iterable[str]) -> Any:
    """Features as the tapped layer itself returned them."""
    if len(output.shape) == len(entrance.shape):
        return entrance
    number, channels = output.shape[1:]
    if len(entrance.shape) == 2:
        raise _Undetermined(
            f"the mean of tokens of shape {tuple(output.shape)}, by tokens={tap.tokens!r}"
        )
    height, width = entrance.shape[1:3]
    if height * width != number:
        raise _Undetermined(
            f"a map of {height}×{width} of {number} tokens, without the class token in front"
        )
    name = _free("features_as_tokens", taken)
    return keras.layers.Reshape((number, channels), name=name, dtype=entrance.dtype)(entrance)


def _free(name: str, taken: Iterable[str]) -> str:
    """A name that no layer has."""
    while name in taken:
        name += "_"
    return name


def _answer(
    tapped: keras.Model, tensors: dict[int, Any], blocked: Sequence[tuple[str, str]]
) -> Any:
    """The model's own output, computed from the features."""
    output = tapped.output["output"]
    if all(id(tensor) in tensors for tensor in keras.tree.flatten(output)):
        return keras.tree.map_structure(lambda tensor: tensors[id(tensor)], output)
    if not blocked:
        raise _Undetermined("a tap that does not lead to the answer")
    layer, around = blocked[0]
    raise _Undetermined(
        f"the layer {layer!r} behind the tap, which also reads {around!r}, past the tap"
    )


def _computed(tapped: keras.Model, features: Any) -> _Result:
    """Call once more, on features, all that depends on the tap alone.

    Args:
        tapped: A model of `with_taps` with one tap.
        features: As the tapped layer returns them.

    Returns:
        What was computed, by the `id` of the model's own tensor; and what was not, see `_follow`.
    """
    tap = tapped.output["taps"][0]
    inner, place, _ = tap._keras_history
    tensors, blocked = {id(tap): features}, []
    if _is_tapped(inner):
        tensors, blocked = _through(inner, inner._inbound_nodes[place], features)

    def call(node: Any) -> Any:
        args, kwargs = node.arguments.fill_in(tensors)
        return node.operation(*args, **kwargs)

    return tensors, blocked + _follow(_calls(tapped), tensors, call)


def _through(inner: keras.Model, node: Any, features: Any) -> _Result:
    """What the call of a nested model gives if the tap is inside it.

    Args:
        inner: The nested model, as `with_taps` made it.
        node: Its call in the outer model.
        features: As the tapped layer returns them.

    Returns:
        As `_computed` does, of the outer model.
    """
    entrance = keras.Input(batch_shape=features.shape, dtype=features.dtype)
    inside, blocked = _computed(inner, entrance)
    pairs = zip(node.outputs, inner.outputs, strict=True)
    outputs = {id(outer): inside[id(own)] for outer, own in pairs if id(own) in inside}
    # Some are the features themselves: the tap, and the output if it is tapped.
    behind = {key: tensor for key, tensor in outputs.items() if tensor is not entrance}
    tensors = dict.fromkeys(outputs, features)
    if behind:
        part = keras.Model(entrance, list(behind.values()), name=inner.name)
        # The nested model may have been called in one mode for good.
        results = part(features, training=node.arguments.kwargs.get("training"))
        tensors |= zip(behind, keras.tree.flatten(results), strict=True)
    return tensors, blocked


def _is_tapped(operation: Any) -> bool:
    """Whether it is a nested model that `with_taps` has put in another's place."""
    output = operation.output if isinstance(operation, keras.Model) else None
    return isinstance(output, dict) and set(output) == {"output", "taps"}


def _calls(model: keras.Model) -> list[Any]:
    """The calls in its graph, in order, without its inputs."""
    by_depth = model._nodes_by_depth
    nodes = chain.from_iterable(by_depth[depth] for depth in sorted(by_depth, reverse=True))
    return [node for node in nodes if not node.is_input]


def _follow(
    calls: Iterable[Any], tensors: dict[int, Any], call: Callable[[Any], Any]
) -> list[tuple[str, str]]:
    """Add to some tensors all that can be computed from them.

    Returns:
        The layers that read one of them but something else as well, each with what that is.
    """
    blocked = []
    for node in calls:
        lacking = [tensor for tensor in node.input_tensors if id(tensor) not in tensors]
        if not lacking:
            tensors |= zip(map(id, node.outputs), keras.tree.flatten(call(node)), strict=True)
        elif len(lacking) < len(node.input_tensors):
            blocked.append((node.operation.name, lacking[0]._keras_history.operation.name))
    return blocked


def _advice(tapped: keras.Model) -> str:
    """What to tap instead: the nearest layers behind the tap, or the last of all."""
    instead = _determining(tapped)
    return f"Tap one of {instead}." if instead else "No layer of this model is such a tap."


def _determining(tapped: keras.Model) -> list[str]:
    """Some layers that can be tapped and determine the answer, by path."""
    tap = tapped.output["taps"][0]
    inner, place, _ = tap._keras_history
    calls, answer = _calls(tapped), keras.tree.flatten(tapped.output["output"])
    uses = Counter(id(node.operation) for node in calls)

    def determines(tensors: Iterable[Any]) -> bool:
        known = {id(tensor): tensor for tensor in tensors}
        _follow(calls, known, lambda node: node.outputs)
        return all(id(tensor) in known for tensor in answer)

    nearest, behind = [], {id(tap)}
    if _is_tapped(inner):
        outputs = inner._inbound_nodes[place].outputs
        behind |= {id(tensor) for tensor in outputs}
        if determines(outputs[:-1]):  # The tap comes last.
            nearest = [f"{inner.name}/{name}" for name in _determining(inner)]
    for node in calls:
        if any(id(tensor) in behind for tensor in node.input_tensors):
            behind |= {id(tensor) for tensor in node.outputs}
    every = [
        (node.operation.name, id(tensor) in behind)
        for node in calls
        for tensor in node.outputs[: 1 if _is_tapped(node.operation) else None]
        if isinstance(node.operation, keras.layers.Layer)
        and uses[id(node.operation)] == 1
        and len(tensor.shape) in (2, 4)
        and determines([tensor])
    ]
    nearest += [name for name, is_behind in every if is_behind]
    return nearest[:_NAMED] or [name for name, _ in every][-_NAMED:]

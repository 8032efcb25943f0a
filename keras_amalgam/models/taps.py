"""Named layers of a model, read in the same forward pass as its outputs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras_amalgam.backend  # noqa: F401

import keras
from keras import ops

from keras_amalgam.text import did_you_mean


@dataclass(frozen=True)
class Tap:
    """A named layer whose output is read as features.

    Args:
        layer: The layer's name; inside nested models either its own name, where that is unique,
            or the path `"backbone/block6"`.
        tokens: What becomes of a transformer's tokens `(batch, tokens, channels)`: `"map"` puts
            them on their square grid, leaving out one class token in front where the number asks
            for it; `"pooled"` is their mean, a vector; `"auto"` is the map where there is one.
    """

    layer: str
    tokens: Literal["auto", "map", "pooled"] = "auto"


Taps = str | Tap | Mapping[str, str | Tap]
"""One layer, or several by tap name."""

# What the only tap of a model is called.
FEATURES = "features"


def as_taps(
    tap: Taps | None, taps: Mapping[str, str | Tap] | None = None, owner: str = "The model"
) -> dict[str, Tap]:
    """Named taps, from the short form for one or the full form for several.

    Args:
        tap: The only one, which is called `"features"`; or several by name.
        taps: Several by name.
        owner: Whom to name in errors.

    Raises:
        TypeError: If a layer is neither a name nor a `Tap`, or `taps` is not a mapping.
        ValueError: If both are given, or a name is empty or has a `/`.
    """
    if isinstance(tap, Mapping) and taps is None:
        tap, taps = None, tap
    if tap is not None and taps is not None:
        raise ValueError(
            f"{owner} has either one tap or several with names. Received: both, {tap!r} and "
            f"{dict(taps)!r}. A single one is short for {{{FEATURES!r}: layer}}."
        )
    if taps is not None and not isinstance(taps, Mapping):
        raise TypeError(
            f"{owner} needs its taps by name. Received: {taps!r}. Give such as "
            "{'mid': 'layer2', 'top': 'layer4'}."
        )
    named: dict[Any, Any] = {FEATURES: tap} if tap is not None else dict(taps or {})
    for name, layer in named.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(
                f"{owner} has a tap whose name cannot stand in the history. Received: {name!r}. "
                "Expected: a word without '/', such as 'mid'."
            )
        if not isinstance(layer, str | Tap):
            raise TypeError(
                f"{owner} has a tap that is not a layer. Received: {layer!r} for {name!r}. "
                "Expected: the layer's name, or a keras_amalgam.Tap."
            )
    return {name: Tap(one) if isinstance(one, str) else one for name, one in named.items()}


def rebuilt(teachers: Iterable[Any]) -> dict[str, str]:
    """The taps of a student with reused heads: the layers where it rebuilds teachers' features.

    Args:
        teachers: Those that `build_student(…, heads="reused")` was given.

    Returns:
        By teacher the student's layer, for `Amalgamator(…, student_taps=…)`.
    """
    return {teacher.name: f"{teacher.name}_rebuilt" for teacher in teachers}


def as_functional(model: keras.Model) -> keras.Model:
    """The model as a functional one over the same layers, without lists of one.

    Raises:
        ValueError: If it is a subclassed model, whose layers' outputs have no graph, or a
            sequential one without an input shape.
    """
    if isinstance(model, keras.Sequential):
        try:
            # Not `input` and `output`, which a sequential model has only once it was called.
            return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
        except AttributeError as error:
            raise ValueError(
                f"A sequential model must know its input's shape. Received: {model.name!r}, which "
                "was neither built nor called. Let it begin with keras.Input(shape)."
            ) from error
    # A subclassed model that was called on Keras tensors has an input and an output as well, but
    # no graph between them.
    if not hasattr(model, "operations"):
        raise ValueError(
            f"Taps need a functional or sequential model. Received: {model.name!r} of type "
            f"{type(model).__name__}, whose layers are called in Python code. Rebuild it with "
            "keras.Model(inputs, outputs)."
        )
    return without_lists_of_one(model)


def without_lists_of_one(model: keras.Model) -> keras.Model:
    """A functional model over the same layers whose only input or output is not in a list.

    Keras 2 and some authors write such lists; Keras 3 keeps them. Other models are returned as
    they are.
    """
    if isinstance(model, keras.Sequential) or not any(
        isinstance(ports, (list, tuple)) and len(ports) == 1
        for ports in (model.input, model.output)
    ):
        return model
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.input
    outputs = model.outputs[0] if len(model.outputs) == 1 else model.output
    return keras.Model(inputs, outputs, name=model.name)


def candidates(model: keras.Model) -> dict[str, tuple[int | None, ...]]:
    """Every layer that can be a tap, by path, with its output's shape.

    Args:
        model: A functional or sequential model.

    Returns:
        `{path: shape}` in the model's order, for outputs of two to four axes.
    """
    return {path: shape for path, layer in _walk(model) if (shape := _shape(layer))}


def with_taps(model: keras.Model, layers: Sequence[str]) -> keras.Model:
    """The model with the outputs of named layers beside its own, one forward pass for all.

    Layers and weights are shared with `model`, which stays as it is.

    Args:
        model: A functional or sequential model.
        layers: Names or paths of layers, as in `Tap`.

    Returns:
        A model of the same inputs and the outputs
        `{"output": the model's own output, "taps": [one tensor per layer]}`.

    Raises:
        ValueError: If a layer does not exist (the candidates are listed), its name is ambiguous,
            or it is called more than once.
    """
    functional = as_functional(model)
    paths = [_resolve(model, name) for name in layers]
    unique = [*dict.fromkeys(paths)]
    replayed = _replay(functional, unique)
    found = dict(zip(unique, replayed.output["taps"], strict=True))
    outputs = {"output": replayed.output["output"], "taps": [found[path] for path in paths]}
    return keras.Model(replayed.input, outputs, name=model.name)


def layers_up_to(model: keras.Model, tap: Tap) -> list[keras.layers.Layer]:
    """The layers that the features at a tap depend on, the tapped one among them, none nested.

    Args:
        model: A functional or sequential model.
        tap: A layer of it.

    Raises:
        ValueError: As in `with_taps`.
    """
    functional = as_functional(model)
    first, _, inside = _resolve(functional, tap.layer).partition("/")
    tapped = functional.get_layer(first)
    calls = [node for nodes in functional._nodes_by_depth.values() for node in nodes]
    # Called more than once it cannot be tapped, and then `with_taps` has said so.
    waiting = [node for node in calls if node.operation is tapped]
    before = {id(parent): parent for node in waiting for parent in node.parent_nodes}
    waiting = [*before.values()]
    while waiting:
        for parent in waiting.pop().parent_nodes:
            if id(parent) not in before:
                before[id(parent)] = parent
                waiting.append(parent)
    whole = [node.operation for node in before.values()] + ([] if inside else [tapped])
    layers = [
        layer
        for operation in whole
        if isinstance(operation, keras.layers.Layer)
        for layer in operation._flatten_layers()
        if not isinstance(layer, keras.Model)
    ]
    return layers + (layers_up_to(tapped, Tap(inside)) if inside else [])


def features_at(model: keras.Model, taps: Mapping[str, Tap]) -> tuple[Any, Any, dict[str, Any]]:
    """Input, own output, and the features at named taps, of one forward pass.

    Args:
        model: A functional or sequential model.
        taps: By name.

    Raises:
        ValueError: As in `with_taps` and `as_features`.
    """
    if not taps:
        return model.input, model.output, {}
    tapped = with_taps(model, [tap.layer for tap in taps.values()])
    pairs = zip(taps.items(), tapped.output["taps"], strict=True)
    features = {name: as_features(output, tap.tokens) for (name, tap), output in pairs}
    return tapped.input, tapped.output["output"], features


def as_features(output: Any, tokens: str = "auto") -> Any:
    """A layer's output as a map or a vector.

    Args:
        output: Shape `(batch, height, width, channels)`, `(batch, channels)`, or tokens
            `(batch, tokens, channels)`.
        tokens: See `Tap`.

    Returns:
        A map or a vector.

    Raises:
        ValueError: If the output has another rank, or its tokens are wanted as a map and do not
            fill a square.
    """
    if not hasattr(output, "shape"):
        raise ValueError(
            f"A tapped layer must have one output. Received: {type(output).__name__} of "
            f"{len(output)}. Tap a layer inside it or behind it."
        )
    if len(output.shape) in (2, 4):
        return output
    if len(output.shape) != 3:
        raise ValueError(
            "A tap's output must be a map, a vector or tokens: two to four axes. "
            f"Received: shape {tuple(output.shape)}. Tap another layer."
        )
    number, channels = output.shape[1], output.shape[2]
    side = _side(number)
    if tokens == "pooled" or (tokens == "auto" and side is None):
        return ops.mean(output, axis=1)
    if side is None:
        raise ValueError(
            f"Tokens must fill a square to become a map. Received: {number} tokens. "
            "Use tokens='pooled'."
        )
    grid = output if side * side == number else output[:, 1:]  # The class token stands first.
    return ops.reshape(grid, (-1, side, side, channels))


def _side(number: int | None) -> int | None:
    for tokens in (number, number and number - 1):
        side = round((tokens or 0) ** 0.5)
        if tokens and side * side == tokens:
            return side
    return None


def _walk(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, keras.layers.Layer]]:
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        yield prefix + layer.name, layer
        if isinstance(layer, (keras.Sequential, keras.Model)) and layer.layers:
            yield from _walk(layer, f"{prefix}{layer.name}/")


def _shape(layer: keras.layers.Layer) -> tuple[int | None, ...] | None:
    output = layer.outputs[0] if isinstance(layer, keras.Model) else _first_output(layer)
    if output is None or not 2 <= len(output.shape) <= 4:
        return None
    return tuple(output.shape)


def _first_output(layer: keras.layers.Layer) -> keras.KerasTensor | None:
    try:
        output = layer.output
    except (AttributeError, ValueError):  # Never called in a graph.
        return None
    return output if isinstance(output, keras.KerasTensor) else None


def _resolve(model: keras.Model, name: str) -> str:
    paths = [path for path, _ in _walk(model)]
    found = [path for path in paths if path == name] or [
        path for path in paths if path.rsplit("/", 1)[-1] == name
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"The tap {name!r} is ambiguous in model {model.name!r}. Use one of these paths: "
            f"{found}."
        )
    shapes = candidates(model)
    listed = ", ".join(f"{path!r} {shape}" for path, shape in list(shapes.items())[-12:])
    raise ValueError(
        f"Model {model.name!r} has no layer {name!r} to tap.{_guess(model, name, shapes)} The last "
        f"of its {len(shapes)} candidates: {listed}. All of them: "
        "keras_amalgam.taps.candidates(model)."
    )


def _guess(model: keras.Model, name: str, layers: Iterable[str]) -> str:
    """What was probably meant, of a converted model the source's own names among it."""
    provenance = getattr(model, "provenance", None)
    known = dict.fromkeys([*layers, *(provenance.names if provenance else ())])
    return did_you_mean(name, known)


def _replay(model: keras.Model, paths: Sequence[str]) -> keras.Model:
    """Call the model's layers once more on new inputs and keep what the taps give."""
    kept: dict[str, Any] = {}

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        inside = [p for p in paths if p.startswith(f"{operation.name}/")]
        if inside and isinstance(operation, keras.Model):
            local = [p.removeprefix(f"{operation.name}/") for p in inside]
            result = _replay(as_functional(operation), local)(*args, **kwargs)
            for path, tensor in zip(inside, result["taps"], strict=True):
                _keep(kept, path, tensor, model.name)
            output = result["output"]
        else:
            output = operation(*args, **kwargs)
        if operation.name in paths:
            _keep(kept, operation.name, output, model.name)
        return output

    replayed = keras.models.clone_model(model, clone_function=lambda op: op, call_function=call)
    outputs = {"output": replayed.output, "taps": [kept[path] for path in paths]}
    return keras.Model(replayed.input, outputs, name=model.name)


def _keep(kept: dict[str, Any], path: str, tensor: Any, model_name: str) -> None:
    if path in kept:
        raise ValueError(
            f"The layer {path!r} is called more than once in model {model_name!r}, so its output "
            "is ambiguous as a tap. Tap a layer that is called once."
        )
    kept[path] = tensor

"""Measuring the normalisation that is built into a Keras model, however it is written there."""

import inspect
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_amalgam.images.built_in import BuiltIn, SeveralWays
from keras_amalgam.images.probe import Numbers, Probe, Reading, grouped, merged

_OPEN_SIZE = 32
_MAX_PIXELS = 2**21  # Larger images are not probed: a dozen of them is held for every operation.
_MAX_WEIGHTS = 64  # Of a normalisation of three channels, or a 1x1 convolution of them.
# What an operation raises on images of a size, or a batch, that it was not made for.
_MISFITS = (ArithmeticError, RuntimeError, TypeError, ValueError, tf.errors.OpError)


class Operation(NamedTuple):
    """One step of a network, whatever its format.

    Args:
        inputs: The tensors that it reads and that depend on the image.
        outputs: Those that it makes.
        compute: From the inputs' values to the outputs'; `None` where it is not to be followed.
        weighted: Whether it has weights: then it is followed only if it mixes neither pixels nor
            channels.
        learned: Whether its numbers are statistics of training images.
    """

    inputs: tuple[Hashable, ...]
    outputs: tuple[Hashable, ...]
    compute: Callable[[list[np.ndarray]], Sequence[np.ndarray] | None]
    weighted: bool = False
    learned: bool = False


def measured(
    image_shape: Sequence[int | None],
    image: Hashable,
    operations: Callable[[Probe], Iterable[Operation]],
    outputs: Iterable[Hashable],
    dtype: str = "float32",
) -> BuiltIn | SeveralWays | None:
    """What a network does to each pixel before anything learned.

    Images are followed through the network as long as every element is one channel of them times
    a factor, plus a number, at whatever place. Where that ends, the numbers are read.

    Args:
        image_shape: `(height, width, channels)` that the network takes, `None` where open.
        image: The tensor that the images are.
        operations: The network's steps in order, for the images of a probe.
        outputs: The tensors that it returns.
        dtype: Data type of the network's images.

    Returns:
        The numbers, or those of each way where its branches differ; `None` if it does nothing, or
        nothing that is the same for all pixels.
    """
    height, width, channels = (size or _OPEN_SIZE for size in image_shape)
    if image_shape[-1] not in (1, 3) or height * width > _MAX_PIXELS:
        return None
    # Some cut off what is outside of 0..1, so that 0..255 would show nothing but that.
    for top in (255.0, 1.0) if dtype.startswith("float") else (255.0,):
        probe = Probe((height, width, channels), top)
        images = probe.images.astype(dtype) if "int" in dtype else probe.images
        found = _followed(probe, images, image, operations(probe), set(outputs))
        if found is not None and (top == 255 or found.expects == "0..1"):
            return found
    return None


def _followed(
    probe: Probe,
    images: np.ndarray,
    image: Hashable,
    operations: Iterable[Operation],
    ends: set[Hashable],
) -> BuiltIn | SeveralWays | None:
    start = probe.reading(images)
    values: dict[Hashable, np.ndarray] = {image: images}
    readings: dict[Hashable, Reading] = {} if start is None else {image: start}
    learned: dict[Hashable, bool] = {image: False}
    for operation in operations:
        if made := _made(probe, operation, values, readings):
            for output, (value, reading) in zip(operation.outputs, made, strict=True):
                values[output], readings[output] = value, reading
                learned[output] = operation.learned or any(learned[i] for i in operation.inputs)
        else:
            ends.update(operation.inputs)
    # In the order of the network, so that its branches are told alike every time.
    last = {name: reading.parts for name, reading in readings.items() if name in ends}
    return _summed_up(last, learned, probe.images.shape[-1])


def _summed_up(
    last: Mapping[Hashable, tuple[Reading, ...]], learned: Mapping[Hashable, bool], channels: int
) -> BuiltIn | SeveralWays | None:
    """What the tensors say at which a normalisation ends, each in uniform parts."""
    statistics = {id(part) for name, parts in last.items() if learned[name] for part in parts}
    ways = []
    for group in grouped(list(chain.from_iterable(last.values()))):
        if found := merged(group):
            ways.append(_built_in(*found, any(id(part) in statistics for part in group)))
    if len(ways) == 1:
        (only,) = ways
        is_complete = len(only.scale) in (1, channels)
        return only if is_complete and not only.changes_nothing else None
    # A mere factor, as that of -x beside x, normalises nothing.
    normalises = any(way.expects is not None or way.centres for way in ways)
    return SeveralWays(tuple(ways)) if normalises else None


def _built_in(numbers: Numbers, order: tuple[int, ...], learned: bool) -> BuiltIn:
    channels = sorted(numbers)
    scale, offset = zip(*(numbers[channel] for channel in channels), strict=True)
    return BuiltIn(scale, offset, tuple(channels.index(c) for c in order), learned)


def _made(
    probe: Probe,
    operation: Operation,
    values: dict[Hashable, np.ndarray],
    readings: dict[Hashable, Reading],
) -> list[tuple[np.ndarray, Reading]] | None:
    """Values and readings of an operation's outputs, or `None` where the way ends."""
    if not all(name in values for name in operation.inputs):
        return None
    given = [values[name] for name in operation.inputs]
    try:
        results = operation.compute(given)
    except _MISFITS:
        return None
    if results is None or len(results) != len(operation.outputs):
        return None
    made = []
    for value in results:
        reading = probe.reading(value)
        if reading is None:
            return None
        if operation.weighted and not probe.is_of_single_pixels(
            given[0], value, readings[operation.inputs[0]], reading
        ):
            return None
        made.append((value, reading))
    return made


def built_in_normalisation(model: keras.Model) -> BuiltIn | SeveralWays | None:
    """The normalisation inside a Keras model, measured on images rather than read off its layers.

    Layers, operations of `keras.ops` and arithmetic count alike, also inside nested models. A batch
    normalisation counts if it does nothing but normalise; one that goes on to scale and shift by
    learned numbers is the first learned layer.

    Args:
        model: A functional or sequential model.

    Returns:
        The numbers, or those of each way where its branches differ; `None` if there is no
        normalisation, or if the model shows no graph.
    """
    graph = _graph(model)
    if graph is None or len(graph.inputs) != 1 or len(graph.inputs[0].shape) != 4:
        return None
    (image,) = graph.inputs
    operations, names = _operations(graph, {id(image): "image"}, "")
    outputs = [names[id(tensor)] for tensor in graph.outputs if id(tensor) in names]
    dtype = keras.backend.standardize_dtype(image.dtype)
    return measured(image.shape[1:], "image", lambda probe: operations, outputs, dtype)


def _graph(model: Any) -> Any:
    """The functional model behind a sequential one; `None` for one without a graph."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs, model.outputs) if model.built else None
    return model if hasattr(model, "operations") else None


def _operations(
    graph: Any, names: dict[int, str], path: str
) -> tuple[list[Operation], dict[int, str]]:
    """The steps of a graph, those of nested models in their place.

    Args:
        graph: Functional.
        names: What its inputs are called, by identity.
        path: Path of the nested model, so that each of its calls has tensors of its own.

    Returns:
        The steps, and the names of all tensors.
    """
    steps, names = [], dict(names)
    by_depth = graph._nodes_by_depth
    for node in chain.from_iterable(by_depth[depth] for depth in sorted(by_depth, reverse=True)):
        # What has no open batch, such as a constant of the model, is no image.
        if node.is_input or any(tensor.shape[:1] != (None,) for tensor in node.outputs):
            continue
        inside = f"{path}/{len(names)}"
        nested = _graph(node.operation) if isinstance(node.operation, keras.Model) else None
        if nested is not None:
            steps += _entries(node, nested, names, inside)
            entered = {id(tensor): f"{inside}/{id(tensor)}" for tensor in nested.inputs}
            inner, inner_names = _operations(nested, entered, inside)
            steps += inner
            for outer, tensor in zip(node.outputs, nested.outputs, strict=True):
                names[id(outer)] = inner_names.get(id(tensor), f"{inside}/unknown")
            continue
        names |= {id(tensor): f"{inside}/{id(tensor)}" for tensor in node.outputs}
        steps.append(_step(node, names))
    return steps, names


def _entries(node: Any, nested: Any, names: dict[int, str], path: str) -> Iterator[Operation]:
    """What enters a nested model, in the type that it takes."""
    for given, taken in zip(node.arguments.keras_tensors, nested.inputs, strict=False):
        dtype = keras.backend.standardize_dtype(taken.dtype)
        yield Operation(
            (names.get(id(given), ""),),
            (f"{path}/{id(taken)}",),
            lambda values, dtype=dtype: [_as_array(ops.cast(values[0], dtype))],
        )


def _step(node: Any, names: dict[int, str]) -> Operation:
    operation = node.operation
    given = list(dict.fromkeys(id(tensor) for tensor in node.arguments.keras_tensors))

    def compute(values: list[np.ndarray]) -> list[np.ndarray] | None:
        if weights and not _may_normalise(operation, node):
            return None
        tensors = dict(zip(given, map(ops.convert_to_tensor, values), strict=True))
        args, kwargs = node.arguments.fill_in(tensors)
        if "training" in inspect.signature(operation.call).parameters:
            kwargs["training"] = False
        return [_as_array(value) for value in keras.tree.flatten(operation(*args, **kwargs))]

    weights = getattr(operation, "weights", ())
    return Operation(
        tuple(names.get(tensor, "") for tensor in given),
        tuple(names[id(tensor)] for tensor in node.outputs),
        compute,
        weighted=bool(weights),
        learned=isinstance(operation, keras.layers.BatchNormalization),
    )


def _may_normalise(layer: Any, node: Any) -> bool:
    """Whether it is worth computing: few weights, as many channels as before, nothing learned."""
    shapes = {tuple(tensor.shape) for tensor in (*node.arguments.keras_tensors, *node.outputs)}
    if len(shapes) > 1 or sum(np.prod(w.shape) for w in layer.weights) > _MAX_WEIGHTS:
        return False
    if not isinstance(layer, keras.layers.BatchNormalization):
        return True
    neutral = ((layer.gamma, 1.0), (layer.beta, 0.0))
    return all(w is None or np.all(ops.convert_to_numpy(w) == value) for w, value in neutral)


def _as_array(value: Any) -> np.ndarray:
    is_half = keras.backend.standardize_dtype(value.dtype) == "bfloat16"
    return ops.convert_to_numpy(ops.cast(value, "float32") if is_half else value)

"""Looking into Keras files."""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import keras

from keras_amalgam.files.contents import sha256_of
from keras_amalgam.files.keras_bounds import is_archive, read_config, read_version
from keras_amalgam.images.measuring import built_in_normalisation
from keras_amalgam.models.heads import seems_to_be
from keras_amalgam.models.outputs import ends_in, innermost
from keras_amalgam.models.taps import as_functional
from keras_amalgam.teachers.conversion.chosen_output import model_of_output, named_outputs
from keras_amalgam.teachers.inspection.report import (
    Inspection,
    TapCandidate,
    Tensor,
    as_candidates,
    operators_of,
)
from keras_amalgam.teachers.inspection.tap_search import Step, find_taps, is_read_on
from keras_amalgam.teachers.keras_files.file import read_keras

_NORMS = (keras.layers.BatchNormalization, keras.layers.LayerNormalization)


def inspect_keras(path: Path, output: str | None = None) -> Inspection:
    """Describe a `.keras` or `.h5` file."""
    try:
        model = read_keras(path)
    except ValueError as error:
        return _without_loading(path, str(error))
    if not model.built or not getattr(model, "inputs", None):
        return _without_loading(path, "The model is neither functional nor knows its input.")
    model = as_functional(model)
    steps, made_by = _steps(model, "", {})
    return _described(
        path,
        inputs=tuple(
            Tensor(t.name, tuple(t.shape), t.dtype, _layout(t.shape)) for t in model.inputs
        ),
        outputs=tuple(
            Tensor(
                name,
                tuple(t.shape),
                t.dtype,
                "" if is_read_on(steps, made_by[id(t)]) else _answer(t),
            )
            for name, t in named_outputs(model).items()
        ),
        parameters=model.count_params(),
        operators=operators_of((s.operator, s.name, True) for s in steps),
        built_in=built_in_normalisation(model),
        taps=model_taps(model_of_output(model, output)),
        output=output,
    )


def _described(path: Path, **found: Any) -> Inspection:
    """What was found in a file, with what is known of any."""
    return Inspection(
        file=path.name,
        format="Keras",
        producer=f"keras {read_version(path)}",
        opsets={},
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
        **found,
    )


def model_taps(model: keras.Model) -> tuple[TapCandidate, ...]:
    """Where a functional or sequential model is best tapped; nowhere if it has several outputs."""
    model = as_functional(model)
    if len(model.outputs) != 1:
        return ()
    steps, made_by = _steps(model, "", {})
    return as_candidates(find_taps(steps, made_by[id(model.outputs[0])]), {})


def _steps(
    model: keras.Model, prefix: str, made_by: dict[int, str]
) -> tuple[list[Step], dict[int, str]]:
    """The layers in order, those of nested models under their path.

    Args:
        model: Functional or sequential.
        prefix: Of the paths.
        made_by: Tensors by identity, and what makes them; added to.
    """
    steps: list[Step] = []
    by_depth = as_functional(model)._nodes_by_depth
    for node in chain.from_iterable(by_depth[depth] for depth in sorted(by_depth, reverse=True)):
        operation = node.operation
        given = tuple(dict.fromkeys(made_by.get(id(t), "") for t in node.arguments.keras_tensors))
        name = prefix + operation.name
        if isinstance(operation, keras.layers.InputLayer):
            made_by.setdefault(id(node.outputs[0]), "image")
        elif isinstance(operation, keras.Model) and getattr(operation, "inputs", None):
            inner = as_functional(operation)
            made_by |= {id(t): source for t, source in zip(inner.inputs, given, strict=False)}
            steps += _steps(inner, f"{name}/", made_by)[0]
            for outer, inside in zip(node.outputs, inner.outputs, strict=True):
                made_by[id(outer)] = made_by[id(inside)]
        else:
            made_by |= {id(tensor): name for tensor in node.outputs}
            shape = tuple(node.outputs[0].shape)
            steps.append(
                Step(name, type(operation).__name__, given, name, shape, _is_weighted(operation))
            )
    return steps, made_by


def _is_weighted(operation: Any) -> bool:
    weights = getattr(operation, "weights", ())
    return not isinstance(operation, _NORMS) and any(len(w.shape) >= 2 for w in weights)


def _layout(shape: tuple[int | None, ...]) -> Any:
    if len(shape) != 4:
        return ""
    return "channels first" if shape[1] in (1, 3) and shape[3] not in (1, 3) else "channels last"


def _answer(tensor: Any) -> str:
    tensor = innermost(tensor)
    return seems_to_be(ends_in(tensor), tensor.shape, tensor.dtype)


def _without_loading(path: Path, obstacle: str) -> Inspection:
    """What the file says of itself where Keras cannot load it.

    Raises:
        ValueError: If it says nothing: it is damaged.
    """
    config = _config(path)
    parameters = 0
    if config is None:
        if is_archive(path):
            raise ValueError(obstacle)
        parameters = _weights_in(path, obstacle)
        obstacle = (
            f"{path.name!r} holds weights without their architecture. Pass `architecture=`, the "
            "model to fill, to from_keras."
        )
    layers = list(_layers(config or {}, ""))
    return _described(
        path,
        inputs=(),
        outputs=(),
        parameters=parameters,
        operators=operators_of(layers),
        built_in=None,
        shows_built_in=False,
        taps=(),
        obstacle=obstacle,
    )


def _config(path: Path) -> dict[str, Any] | None:
    """The model's configuration, or `None` if there is none that can be read."""
    try:
        config = read_config(path)
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def _layers(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, bool]]:
    """Class, path and whether Keras itself knows it, of every layer in a configuration."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        settings = layer.get("config") if isinstance(layer, dict) else None
        kind = str(layer.get("class_name", "?")) if isinstance(layer, dict) else "?"
        if not isinstance(settings, dict) or kind == "InputLayer":
            continue
        name = prefix + str(settings.get("name", kind))
        if "layers" in settings:
            yield from _layers(layer, f"{name}/")
        else:
            yield kind, name, hasattr(keras.layers, kind) and kind != "Lambda"


def _weights_in(path: Path, obstacle: str) -> int:
    """Number of weights in an HDF5 file of weights."""
    sizes = []
    try:
        with h5py.File(path, "r") as file:
            file.visititems(
                lambda _, item: sizes.append(item.size) if isinstance(item, h5py.Dataset) else None
            )
    except OSError as error:
        raise ValueError(obstacle) from error
    if not sizes:
        raise ValueError(obstacle)
    return sum(sizes)

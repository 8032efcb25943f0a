"""Filling a given architecture with the weights in a file."""

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import keras

from keras_amalgam.files.keras_bounds import check_file, opened_weights

# What Keras saves beside a network's own weights.
_NOT_WEIGHTS = ("optimizer", "optimizer_weights", "seed_generator", "seed_generators")
_LISTED = 8


def fill(architecture: keras.Model, path: Path) -> None:
    """Load weights into a model, all of them or none.

    The weights must be those of this architecture: the same number of arrays of the same shapes.
    In a legacy file they go by the layers' names where these are the same, else by order.

    Args:
        architecture: Filled in place; as it was after an error.
        path: A `.weights.h5`, legacy `.h5`, or `.keras` file.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If the weights are not of this architecture, or the file is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}. Check the path.")
    try:
        check_file(path)
        with opened_weights(path) as file:
            _check_shapes(architecture, file)
            options = {"by_name": True} if _has_same_names(architecture, file) else {}
    except ValueError as error:
        raise _no_fit(architecture, path, error) from error
    before = architecture.get_weights()
    try:
        with warnings.catch_warnings():
            # Where names do not match, Keras only warns that it leaves layers as they are.
            warnings.simplefilter("error", UserWarning)
            architecture.load_weights(path, **options)
    except (ValueError, KeyError, OSError, TypeError, IndexError, UserWarning) as error:
        architecture.set_weights(before)
        raise _no_fit(architecture, path, error) from error


def _no_fit(architecture: keras.Model, path: Path, error: Exception) -> ValueError:
    reason = str(error).strip().split("\n")[0]
    return ValueError(
        f"The weights in {path.name!r} do not fit the architecture {architecture.name!r}: "
        f"{reason} Pass the architecture that they were trained in."
    )


def _check_shapes(architecture: keras.Model, file: h5py.File) -> None:
    """Compare the shapes in the file and in the model, however both name them.

    Scalars are left out: Keras 2 counted what its normalization layers had seen.
    """
    found: list[tuple[int, ...]] = []

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not set(name.split("/")) & set(_NOT_WEIGHTS):
            found.append(tuple(item.shape))

    file.visititems(collect)
    expected = Counter(tuple(weight.shape) for weight in architecture.weights if weight.shape)
    received = Counter(shape for shape in found if shape)
    if expected != received:
        missing, further = expected - received, received - expected
        raise ValueError(
            f"it has {received.total()} arrays and the architecture {expected.total()}; only the "
            f"file has {_listed(further)}, only the architecture {_listed(missing)}."
        )


def _listed(shapes: Counter[tuple[int, ...]]) -> str:
    listed = [f"{number} of {shape}" for shape, number in list(shapes.items())[:_LISTED]]
    return ", ".join(listed) + (", …" if len(shapes) > _LISTED else "") if listed else "nothing"


def _has_same_names(architecture: keras.Model, file: h5py.File) -> bool:
    """Whether a legacy file names its layers with weights as the architecture does."""
    group = file.get("model_weights", file)
    if not isinstance(group, h5py.Group) or "layer_names" not in group.attrs:
        return False
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in group.attrs["layer_names"]]
    in_file = [n for n in names if n in group and len(group[n].attrs.get("weight_names", ()))]
    return sorted(in_file) == sorted(layer.name for layer in architecture.layers if layer.weights)

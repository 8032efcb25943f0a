"""Keras models and files as teachers' models."""

import hashlib
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_amalgam.teacher import Provenance
from keras_amalgam.teachers.keras_file import read_keras, sha256_of
from keras_amalgam.teachers.parity import check_parity, worst
from keras_amalgam.version import __version__


def from_keras(
    source: str | Path | keras.Model,
    *,
    architecture: keras.Model | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    verify: bool = True,
    tolerance: float = 1e-4,
) -> keras.Model:
    """A Keras model, from memory or a file, with its provenance.

    Files are read in Keras' safe mode, always: code inside a file is never run.

    Args:
        source: A model, a `.keras` file, a legacy `.h5` file of a whole model, or with
            `architecture` a file of weights.
        architecture: The model whose weights `source` holds; it is filled and returned.
        custom_objects: Classes by name that the model needs and Keras does not know.
        verify: Whether the model is saved as `.keras`, read again and compared at every layer, as
            a teacher will be when it is saved.
        tolerance: Largest error allowed then, as a fraction of an output's range, or of 1.

    Returns:
        The model, with `model.provenance`; its hash is that of the file, or of the weights of a
        model in memory.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If `source` is neither a model nor a path.
        ValueError: If the file is damaged, unsafe, or does not fit `architecture`; or if the model
            changes when it is saved and read again.

    Example:
    ```python
    model = from_keras("birds.keras")
    model = from_keras("squeezenet_weights.h5", architecture=build_squeezenet())
    ```
    """
    model: Any = source
    if isinstance(source, keras.Model):
        name, digest = f"{model.name} (in memory)", _weights_sha256(model)
    elif not isinstance(source, (str, Path)):
        raise TypeError(
            "`source` must be a keras.Model or the path of a .keras or .h5 file. Received: "
            f"{type(source).__name__}."
        )
    elif architecture is not None:
        model, name = _with_weights(architecture, Path(source)), Path(source).name
        digest = sha256_of(source)
    else:
        model, name = read_keras(source, custom_objects), Path(source).name
        digest = sha256_of(source)
    _refuse_subclassed(model)
    parity = _reload_parity(model, custom_objects, tolerance) if verify else {}
    model.provenance = Provenance(
        source=name,
        sha256=digest,
        framework=f"keras {keras.__version__}",
        converter=f"keras-amalgam {__version__}",
        parity=parity,
    )
    return model


def _refuse_subclassed(model: keras.Model) -> None:
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ValueError(
            f"A teacher must be a functional model, or a sequential one that knows its input. "
            f"Received: {model.name!r} of type {type(model).__name__}. Rebuild it with "
            "keras.Model(inputs, outputs), or start it with keras.Input."
        )


def _with_weights(architecture: keras.Model, path: Path) -> keras.Model:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}. Check the path.")
    try:
        with warnings.catch_warnings():
            # Where names do not match, Keras only warns that it leaves layers as they are.
            warnings.simplefilter("error", UserWarning)
            architecture.load_weights(path)
    except (ValueError, KeyError, OSError, UserWarning) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"The weights in {path.name!r} do not fit the architecture {architecture.name!r}: "
            f"{reason} Pass the architecture that they were trained in."
        ) from error
    return architecture


def _weights_sha256(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(f"{weight.shape} {weight.dtype}".encode())
        digest.update(weight.tobytes())
    return digest.hexdigest()


def _reload_parity(
    model: keras.Model, custom_objects: Mapping[str, Any] | None, tolerance: float
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        again = read_keras(path, custom_objects)
    report = check_parity(again, model, tolerance=tolerance)
    return {"tolerance": tolerance, "outputs": report["outputs"], "tap": worst(report)}

"""Keras models and files as teachers' models."""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_amalgam.files.contents import sha256_of
from keras_amalgam.files.provenance import Provenance
from keras_amalgam.keras_settings import keras_defaults
from keras_amalgam.teachers.comparison.parity import check_parity, worst
from keras_amalgam.teachers.comparison.tolerance import check_tolerance
from keras_amalgam.teachers.conversion.chosen_output import model_of_output
from keras_amalgam.teachers.keras_files.file import read_keras
from keras_amalgam.teachers.keras_files.weights import fill
from keras_amalgam.version import __version__


@keras_defaults()
def from_keras(
    source: str | Path | keras.Model,
    *,
    architecture: keras.Model | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    output: str | None = None,
    verify: bool = True,
    tolerance: float = 1e-4,
) -> keras.Model:
    """A Keras model, from memory or a file, with its provenance.

    Code inside a file is not run, unless you say `safe_mode=False`. A file may not refer to other
    files, nor unfold to more than 8 GiB or a hundred times of what is stored.

    Args:
        source: A model, a `.keras` file, a legacy `.h5` file of a whole model, or with
            `architecture` a file of weights.
        architecture: The model whose weights `source` holds; it is filled and returned, or left as
            it was if they are not its own.
        custom_objects: Classes by name that the model needs and Keras does not know.
        safe_mode: Whether layers that carry code, as `Lambda`, are refused. `False` runs the code
            in the file: only for a file that you would run as a program. A teacher's directory is
            read in safe mode, so put a layer of your own in a `Lambda`'s place before saving one.
        output: The output to take where the model has several: a key of its dictionary, or
            `"output_0"` and so on. The result is then a model of its own over the same layers.
        verify: Whether the model is saved as `.keras`, read again and compared at every layer, as
            a teacher will be when it is saved.
        tolerance: Largest error allowed then, as a fraction of an output's range, or of 1.

    Returns:
        The model, with `model.provenance`; its hash is that of the file, or of the weights of a
        model in memory.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If `source` is neither a model nor a path, or `output` no name.
        ValueError: If the file is damaged, too large, unsafe, or does not fit `architecture`; the
            model has no such output; or it changes when it is saved and read again.

    Example:
    ```python
    model = from_keras("birds.keras")
    model = from_keras("squeezenet_weights.h5", architecture=build_squeezenet())
    ```
    """
    check_tolerance(tolerance)
    model: Any = source
    if isinstance(source, keras.Model):
        name, digest = f"{model.name} (in memory)", weights_sha256(model)
    elif not isinstance(source, (str, Path)):
        raise TypeError(
            "`source` must be a keras.Model or the path of a .keras or .h5 file. Received: "
            f"{type(source).__name__}."
        )
    elif architecture is not None:
        fill(architecture, Path(source))
        model, name, digest = architecture, Path(source).name, sha256_of(source)
    else:
        model, name = read_keras(source, custom_objects, safe_mode), Path(source).name
        digest = sha256_of(source)
    check_form(model)
    model = model_of_output(model, output)
    parity = reload_parity(model, custom_objects, safe_mode, tolerance) if verify else {}
    model.provenance = Provenance(
        source=name,
        sha256=digest,
        framework=f"keras {keras.__version__}",
        converter=f"keras-amalgam {__version__}",
        parity=parity,
        output=output,
    )
    return model


def check_form(model: keras.Model) -> None:
    """Refuse a model without a graph, which has no taps, and one that takes more than the image.

    Raises:
        ValueError: If it is neither functional nor sequential with a known input, or has several.
    """
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ValueError(
            f"A teacher must be a functional model, or a sequential one that knows its input. "
            f"Received: {model.name!r} of type {type(model).__name__}. Rebuild it with "
            "keras.Model(inputs, outputs), or start it with keras.Input."
        )
    if len(model.inputs) != 1:
        raise ValueError(
            f"A teacher takes one batch of images. Received: {model.name!r} with "
            f"{len(model.inputs)} inputs, {[tensor.name for tensor in model.inputs]}. Pass the "
            "part that takes the image: keras.Model(image, output)."
        )


def weights_sha256(model: keras.Model) -> str:
    """SHA-256 over the shapes, types and values of a model's weights, in order; hexadecimal."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(f"{weight.shape} {weight.dtype}".encode())
        digest.update(weight.tobytes())
    return digest.hexdigest()


def reload_parity(
    model: keras.Model,
    custom_objects: Mapping[str, Any] | None,
    safe_mode: bool,
    tolerance: float,
) -> dict[str, Any]:
    """Save a model, read it again, and compare the two at every layer.

    Args:
        model: Functional or sequential.
        custom_objects: As in `from_keras`.
        safe_mode: As in `from_keras`.
        tolerance: As in `from_keras`.

    Returns:
        The errors, as a provenance keeps them.

    Raises:
        ValueError: If it cannot be read again, or has changed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        again = read_keras(path, custom_objects, safe_mode)
    report = check_parity(again, model, tolerance=tolerance)
    return {"tolerance": tolerance, "outputs": report["outputs"], "tap": worst(report)}

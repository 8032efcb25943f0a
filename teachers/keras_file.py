"""Reading Keras files as what they are: untrusted input."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_amalgam.keras_bounds import check_file, read_config
from keras_amalgam.keras_code import refuse_code
from keras_amalgam.keras_demand import refuse_excess


def read_keras(
    path: str | Path,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
) -> keras.Model:
    """A whole model from a `.keras` or legacy `.h5` file.

    Args:
        path: The file.
        custom_objects: Classes by name that the model needs and Keras does not know.
        safe_mode: Whether a layer that carries code, as `Lambda`, is refused. `False` runs what
            is in the file.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is cut off, too large, no whole model, unsafe, or needs a class that is
            not given.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}. Check the path.")
    check_file(path)
    config = read_config(path)
    if safe_mode:
        refuse_code(config, path.name)
    refuse_excess(path, config, custom_objects, safe_mode)
    try:
        model = keras.saving.load_model(
            path, custom_objects=dict(custom_objects or {}), compile=False, safe_mode=safe_mode
        )
    except _unreadable() as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"Keras cannot load {path.name!r}: {reason} If the model has classes of its own, pass "
            "them as `custom_objects`; if the file holds weights only, pass `architecture=`."
        ) from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"{path.name!r} holds a {type(model).__name__}. Expected a keras.Model.")
    return model


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unreadable() -> tuple[type[Exception], ...]:
    """What Keras raises at a file that is damaged, asks for too much, or is malicious."""
    import tensorflow as tf

    # AttributeError and the last three: a configuration of wrong types, or of endless depth.
    wrong = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)
    return (*wrong, OSError, MemoryError, ImportError, zipfile.BadZipFile, tf.errors.OpError)

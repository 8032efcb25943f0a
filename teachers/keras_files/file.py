"""Reading Keras files as what they are: untrusted input."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_amalgam.files.keras_bounds import check_file, read_config, read_version
from keras_amalgam.files.keras_code import refuse_code
from keras_amalgam.files.keras_demand import refuse_excess
from keras_amalgam.teachers.keras_files.keras_2 import in_keras_3
from keras_amalgam.teachers.keras_files.keras_2_stand_ins import STAND_INS
from keras_amalgam.teachers.keras_files.keras_2_weights import fill_from_keras_2

_OLD = (
    "It is a file of Keras {version}: open it there and export it to ONNX or as a SavedModel, "
    "which from_onnx and from_saved_model read, or save its weights and fill the architecture. "
)


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
    version = read_version(path)
    is_old = config is not None and version.startswith(("1.", "2."))
    load = _load_keras_2 if is_old else _load
    try:
        model = load(path, config, dict(custom_objects or {}), safe_mode)
    except _unreadable() as error:
        raise ValueError(
            f"Keras cannot load {path.name!r}: {_reason(error)} "
            + (_OLD.format(version=version) if is_old else "")
            + "If the model has classes of its own, pass them as `custom_objects`; if the file "
            "holds weights only, pass `architecture=`."
        ) from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"{path.name!r} holds a {type(model).__name__}. Expected a keras.Model.")
    return model


def _load(path: Path, config: Any, custom_objects: dict[str, Any], safe_mode: bool) -> Any:
    refuse_excess(path, config, custom_objects, safe_mode)
    return keras.saving.load_model(
        path, custom_objects=custom_objects, compile=False, safe_mode=safe_mode
    )


def _load_keras_2(path: Path, config: Any, custom_objects: dict[str, Any], safe_mode: bool) -> Any:
    """Build what Keras 2 described as Keras 3 describes it, and fill it."""
    translated = in_keras_3(config)
    known = {**custom_objects, **STAND_INS}
    refuse_excess(path, translated, known, safe_mode)
    model = keras.saving.deserialize_keras_object(
        translated, custom_objects=known, safe_mode=safe_mode
    )
    fill_from_keras_2(model, config, path)
    return model


def _reason(error: Exception) -> str:
    """Keras' own reason in one line: the innermost, without the configurations around it."""
    reason = " ".join(str(error).split()).split("Exception encountered: ")[-1]
    return reason.split(" Full object config: ")[0]


def _unreadable() -> tuple[type[Exception], ...]:
    """What Keras raises at a file that is damaged, asks for too much, or is malicious."""
    import tensorflow as tf

    # AttributeError and the last three: a configuration of wrong types, or of endless depth.
    wrong = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)
    return (*wrong, OSError, MemoryError, ImportError, zipfile.BadZipFile, tf.errors.OpError)

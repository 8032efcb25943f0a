"""Reading Keras files as what they are: untrusted input."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras


def read_keras(path: str | Path, custom_objects: Mapping[str, Any] | None = None) -> keras.Model:
    """A whole model from a `.keras` or legacy `.h5` file.

    Always in Keras' safe mode: a layer that carries Python code (`Lambda`) is refused.

    Args:
        path: The file.
        custom_objects: Classes by name that the model needs and Keras does not know.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is cut off, no whole model, unsafe, or needs a class that is not given.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}. Check the path.")
    _refuse_damaged(path)
    try:
        model = keras.saving.load_model(
            path, custom_objects=dict(custom_objects or {}), compile=False, safe_mode=True
        )
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"Keras cannot load {path.name!r}: {reason} If the model has classes of its own, pass "
            "them as `custom_objects`; if the file holds weights only, pass `architecture=`; code "
            "inside a file (Lambda) is never run: load such a model yourself and pass it."
        ) from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"{path.name!r} holds a {type(model).__name__}. Expected a keras.Model.")
    return model


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _refuse_damaged(path: Path) -> None:
    if path.suffix == ".keras":
        what, intact = "a .keras archive", zipfile.is_zipfile(path) and _is_whole(path)
    else:
        what, intact = "an HDF5 file", h5py.is_hdf5(path) and _opens(path)
    if not intact:
        raise ValueError(
            f"{path.name!r} is cut off or damaged. Received: {path.stat().st_size:,} bytes that "
            f"are not {what}. Copy or save it again."
        )


def _is_whole(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None


def _opens(path: Path) -> bool:
    try:
        with h5py.File(path, "r"):
            return True
    except OSError:
        return False

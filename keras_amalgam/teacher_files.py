"""The files of a teacher's directory, with a clear word where one is damaged."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_amalgam.keras_bounds import check_file, read_config
from keras_amalgam.keras_code import refuse_code
from keras_amalgam.keras_demand import refuse_excess
from keras_amalgam.provenance import NETWORK

CARD_VERSION = 1
CARD_KEYS = {"name", "task", "outputs", "tap", "preprocessing", "provenance", "weights_sha256"}

# What Keras raises at a truncated or damaged file, as the archive, the configuration or the
# weights inside are hit.
UNREADABLE = (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)


def read_card(path: Path) -> dict[str, Any]:
    """The teacher card at `path`, checked to be whole.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged or of another version.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"No teacher card at {path}. A teacher's directory is what Teacher.save wrote."
        )
    try:
        card = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"The teacher card {path} is damaged. Received: {error}. Save the teacher again."
        ) from error
    version = card.get("card_version") if isinstance(card, dict) else None
    if version != CARD_VERSION:
        raise ValueError(
            f"The teacher card {path} is of another version. Received: {version!r}; this package "
            f"reads version {CARD_VERSION}. Save the teacher again with this package."
        )
    missing = sorted(CARD_KEYS - set(card))
    if missing:
        raise ValueError(
            f"The teacher card {path} is damaged. Received: a card without {missing}. Save the "
            "teacher again."
        )
    return card


def load_model(path: Path) -> keras.Model:
    """The Keras model at `path`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If Keras cannot read it, or it holds code, or more than it may.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"No teacher model at {path}. A teacher's directory is what Teacher.save wrote."
        )
    try:
        check_file(path)
        config = read_config(path)
    except ValueError as error:
        raise _not_whole(path, error) from error
    refuse_code(config, path.name)
    refuse_excess(path, config, None)
    try:
        return keras.saving.load_model(path, compile=False)
    except UNREADABLE as error:
        raise _not_whole(path, error) from error


def _not_whole(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is not a whole .keras file. Received: {path.stat().st_size} bytes that Keras "
        f"cannot load ({type(error).__name__}: {error}). It may be truncated: copy or save "
        "the teacher again."
    )


def sha256_of_files(files: Sequence[Path], folder: Path) -> str:
    """SHA-256 of one file's bytes; of several files, over their names and bytes by name.

    Args:
        files: At least one.
        folder: What the names are relative to.
    """
    digest = hashlib.sha256()
    for file in sorted(files):
        if len(files) > 1:
            digest.update(str(file.relative_to(folder)).encode() + b"\0")
        with file.open("rb") as stream:
            while part := stream.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()


def network_bytes(directory: str | Path) -> int:
    """Size of the network in a teacher's directory, without card and labels."""
    directory = Path(directory)
    network = directory / NETWORK
    files = [directory / "model.keras"]
    if network.is_dir():
        files = [file for file in network.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)

"""The files of a teacher's directory, with a clear word where one is damaged."""

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_amalgam.files.contents import bytes_on_disk
from keras_amalgam.files.keras_bounds import check_file, read_config
from keras_amalgam.files.keras_code import refuse_code
from keras_amalgam.files.keras_demand import refuse_excess
from keras_amalgam.files.provenance import CARD, NETWORK, Provenance
from keras_amalgam.images.preprocessing import Preprocessing
from keras_amalgam.models.taps import FEATURES, Tap, as_taps
from keras_amalgam.tasks import Classification

CARD_VERSION = 2
# Version 1 had one tap, without a name.
_READ_VERSIONS = (1, CARD_VERSION)
CARD_KEYS = {"name", "task", "outputs", "taps", "preprocessing", "provenance", "weights_sha256"}
_KINDS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "task": dict,
    "outputs": str,
    "taps": dict,
    "preprocessing": dict,
    "provenance": (dict, type(None)),
    "weights_sha256": str,
}

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
    if version not in _READ_VERSIONS or isinstance(version, bool):
        raise ValueError(
            f"The teacher card {path} is of another version. Received: {version!r}; this package "
            f"reads versions {' and '.join(map(str, _READ_VERSIONS))}. Save the teacher again with "
            "this package, or load it with the version that wrote it."
        )
    if version == 1:
        card = _upgraded(card, path)
    missing = sorted(CARD_KEYS - set(card))
    if missing:
        raise ValueError(
            f"The teacher card {path} is damaged. Received: a card without {missing}. Save the "
            "teacher again."
        )
    for key, kind in _KINDS.items():
        if not isinstance(card[key], kind):
            raise _damaged(path, key, card[key], f"{type(card[key]).__name__} has no place there")
    return card


def _upgraded(card: dict[str, Any], path: Path) -> dict[str, Any]:
    """A card of version 1 as one of the present version."""
    if "tap" not in card or not isinstance(card["tap"], dict | None):
        received = "a card without ['tap']" if "tap" not in card else repr(card["tap"])
        raise _damaged(path, "tap", received, "a tap is a layer's name and what its tokens become")
    tap = card.pop("tap")
    return {**card, "card_version": CARD_VERSION, "taps": {FEATURES: tap} if tap else {}}


def _taps(said: Mapping[str, Any]) -> dict[str, Tap]:
    return as_taps(None, {name: Tap(**tap) for name, tap in said.items()}, "The card")


def settings_of(card: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """What a card says about a teacher, as the keyword arguments that make it.

    Args:
        card: From `read_card`.
        directory: Where it stands.

    Raises:
        ValueError: If a field is damaged.
    """
    return {
        "task": _made(card, directory, "task", lambda task: Classification(task["class_names"])),
        "taps": _made(card, directory, "taps", _taps),
        "outputs": card["outputs"],
        "preprocessing": _made(card, directory, "preprocessing", Preprocessing.from_config),
    }


def provenance_of(card: Mapping[str, Any], directory: Path) -> Provenance:
    """Where a card says that the network came from, with the statistics beside it.

    Args:
        card: From `read_card`, with a provenance.
        directory: Where it stands.

    Raises:
        FileNotFoundError: If the statistics are missing.
        ValueError: If the field is damaged, or the statistics are not the card's.
    """
    return _made(card, directory, "provenance", lambda said: Provenance.from_card(said, directory))


def _made(card: Mapping[str, Any], directory: Path, key: str, make: Callable[[Any], Any]) -> Any:
    try:
        return make(card[key])
    except (TypeError, KeyError, AttributeError, IndexError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise _damaged(directory / CARD, key, card[key], reason) from error


def _damaged(path: Path, key: str, value: Any, reason: str) -> ValueError:
    return ValueError(
        f"The teacher card {path} is damaged at {key!r}. Received: {str(value)[:200]} ({reason}). "
        "Save the teacher again."
    )


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


def network_bytes(directory: str | Path) -> int:
    """Size of the network in a teacher's directory, without card and labels."""
    network = Path(directory, NETWORK)
    return bytes_on_disk(network if network.is_dir() else Path(directory, "model.keras"))

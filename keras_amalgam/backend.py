"""To import this module is to refuse every backend of Keras but TensorFlow.

Keras reads its backend once, when it is imported, and fails there with words of its own if that
library is not installed. So every room of this package that needs Keras imports this one first.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

BACKEND = "tensorflow"


def refuse_other_backends() -> None:
    """Raise unless Keras runs on TensorFlow, or will as soon as it is imported.

    Raises:
        ImportError: If it does not; names the setting.
    """
    chosen, where, remedy = _chosen()
    if chosen != BACKEND:
        raise ImportError(
            f"keras-amalgam needs Keras on TensorFlow. Received: the backend {chosen!r}, by "
            f"{where}. Expected: {BACKEND!r}. {remedy}"
        )


def _chosen() -> tuple[str, str, str]:
    """The backend, what chose it, and what to do if it is another."""
    keras: Any = sys.modules.get("keras")
    by_variable = os.environ.get("KERAS_BACKEND", "")
    if hasattr(keras, "config"):
        remedy = f"Set KERAS_BACKEND={BACKEND} before Keras is imported, and start again."
        return keras.config.backend(), "Keras as it was imported", remedy
    if by_variable:
        remedy = f"Set KERAS_BACKEND={BACKEND}, or unset it."
        return by_variable, "the environment variable KERAS_BACKEND", remedy
    path = _settings_file()
    remedy = f"Write {BACKEND!r} there, or set KERAS_BACKEND={BACKEND}, which comes first."
    return _in_file(path), f"'backend' in {path}", remedy


def _settings_file() -> Path:
    """Where Keras keeps its settings (keras/src/backend/config.py)."""
    home = os.path.expanduser("~")
    base = home if os.access(home, os.W_OK) else "/tmp"
    folder = os.environ.get("KERAS_HOME", os.path.join(base, ".keras"))
    return Path(os.path.expanduser(folder)) / "keras.json"


def _in_file(path: Path) -> str:
    """The backend that a file of settings names; Keras' own default where it names none."""
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError):  # As Keras, which goes on without it.
        return BACKEND
    return settings.get("backend", BACKEND) if isinstance(settings, dict) else BACKEND


refuse_other_backends()

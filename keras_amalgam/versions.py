"""The software a result was obtained with."""

import platform
from importlib import metadata

from keras_amalgam.onednn import uses_onednn

PACKAGES = (
    "keras-amalgam",
    "tensorflow",
    "keras",
    "numpy",
    "onnx",
    "onnxruntime",
    "tf2onnx",
    "ai-edge-litert",
    "tensorflow-datasets",
)


def versions() -> dict[str, str]:
    """Installed versions of what results depend on, and of Python; `"absent"` if not installed.

    Under `"onednn"`, whether TensorFlow computes with it, `"on"` or `"off"`: it rounds otherwise.
    """
    found = {"python": platform.python_version(), "onednn": "on" if uses_onednn() else "off"}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found

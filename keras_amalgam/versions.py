"""The versions a result was obtained with."""

import platform
from importlib import metadata

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
    """Installed versions of what results depend on, and of Python; `"absent"` if not installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found

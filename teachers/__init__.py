"""Trained networks of other frameworks as Keras models, each compared with its source.

Stands at the top of the repository, and is imported as a part of keras_amalgam.
"""

if __name__ != "keras_amalgam.teachers":
    raise ImportError(
        f"This package is imported as keras_amalgam.teachers. Received: an import as {__name__!r}. "
        "Write `from keras_amalgam import teachers`."
    )

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.teachers.comparison.normalization_check import (
    check_normalization,
    rank_normalizations,
)
from keras_amalgam.teachers.comparison.parity import check_parity
from keras_amalgam.teachers.comparison.teacher_parity import check_teacher
from keras_amalgam.teachers.conversion.operators import register_operator
from keras_amalgam.teachers.from_keras import from_keras
from keras_amalgam.teachers.from_keras_hub import from_keras_hub
from keras_amalgam.teachers.from_onnx import from_onnx
from keras_amalgam.teachers.from_saved_model import from_saved_model
from keras_amalgam.teachers.from_torch import from_torch
from keras_amalgam.teachers.inspection.inspect_file import inspect
from keras_amalgam.teachers.keras_files.keras_applications import preprocessing_of
from keras_amalgam.teachers.runtimes.opening import load, open_runtime, runtime_teacher

__all__ = [
    "check_normalization",
    "check_parity",
    "check_teacher",
    "from_keras",
    "from_keras_hub",
    "from_onnx",
    "from_saved_model",
    "from_torch",
    "inspect",
    "load",
    "open_runtime",
    "preprocessing_of",
    "rank_normalizations",
    "register_operator",
    "runtime_teacher",
]

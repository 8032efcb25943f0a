"""Trained networks of other frameworks as Keras models, each compared with its source.

Stands at the top of the repository, and is imported as a part of keras_amalgam.
"""

if __name__ != "keras_amalgam.teachers":
    raise ImportError(
        f"This package is imported as keras_amalgam.teachers. Received: an import as {__name__!r}. "
        "Write `from keras_amalgam import teachers`."
    )

from keras_amalgam.teachers.from_keras import from_keras
from keras_amalgam.teachers.from_onnx import from_onnx
from keras_amalgam.teachers.from_saved_model import from_saved_model
from keras_amalgam.teachers.parity import check_parity

__all__ = ["check_parity", "from_keras", "from_onnx", "from_saved_model"]
